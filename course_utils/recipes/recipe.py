"""A recipe: plain data that says a whole training, and is read back from any file that carries one."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """What to train, on what, and how: data · network · schedule · task · optimizer.

    `schedule` and `task` are {"kind": name, and the arguments of what SCHEDULES and TASKS know by that name}; `dataset`
    is "mnist", "cifar10", or a name in STREAMS; `architecture` one in ARCHITECTURES (`recipes.parts` has all four).
    """

    name: str
    # data
    dataset: str
    full: bool = False  # all of it, downloaded, instead of the embedded part
    paths: dict[str, Any] | None = None  # instead of images: the paths of a shipped network, see `parts.load_data`
    # network
    architecture: str = "unet"
    network: dict[str, Any] = field(default_factory=dict)  # the architecture's arguments
    critic: dict[str, Any] | None = None  # that judges its images while it trains: arguments of a DigitCritic
    start: str | None = None  # shipped, or a run beside this one: its averaged weights, where names and shapes agree
    # schedule: a network that has one is a denoiser, and predicts what is said
    schedule: dict[str, Any] | None = field(default_factory=lambda: {"kind": "linear", "T": 1000})
    predict: str = "v"
    # task
    task: dict[str, Any] = field(default_factory=lambda: {"kind": "denoising"})
    frozen: dict[str, str] | None = None  # shipped networks that help and do not learn: "teacher" -> "mnist-unet"
    # optimizer, and where parts of the network differ from it, see `runs.Training`
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.0
    parts: dict[str, dict[str, Any]] | None = None
    ema: float | list[float] = 0.999
    steps: int = 4000
    batch_size: int = 128
    warmup: int = 200
    seed: int = 0

    @property
    def flip(self) -> bool:
        """Whether half of the images are mirrored."""
        return self.task.get("flip", False)

    @property
    def calls(self) -> int:
        """Network calls that the training takes, an image each: a step counts as three, since the way back costs twice
        the way there (Kaplan et al. 2020, section 2.1); and those that drew its paths, two a step where guided.
        """
        walked = self.paths or {"n": 0, "steps": 0}
        a_step = 1 if walked.get("guidance", 1) == 1 else 2
        return 3 * self.steps * self.batch_size + a_step * walked["n"] * walked["steps"]


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it is read back from a file: tuples have become lists."""
    return json.loads(json.dumps(dataclasses.asdict(recipe)))


# What the first recipes said of their task and schedule, flat, and what was meant where nothing was said.
_OF_DENOISERS = {"weighting": "v", "times": "uniform", "label_drop": 0.1}
_FLAT = _OF_DENOISERS | {"flip": False, "shift": 0, "T": 1000}


def recipe_from(settings: Mapping[str, Any]) -> Recipe:
    """The recipe of `settings_of`; also of the flat settings that the first files and runs carry."""
    rest = {key: value for key, value in settings.items() if key not in _FLAT}
    if "task" not in settings:
        flat = _FLAT | {key: value for key, value in settings.items() if key in _FLAT}
        if settings.get("architecture") == "classifier":
            task: dict[str, Any] = {"kind": "classification", "shift": flat["shift"]}
            rest |= {"schedule": None}
        else:
            task = {"kind": "denoising"} | {key: flat[key] for key in _OF_DENOISERS}
            rest |= {"schedule": {"kind": "linear", "T": flat["T"]}}
        task |= {"flip": flat["flip"]}
        rest["task"] = {key: value for key, value in task.items() if key == "kind" or value != _FLAT[key]}
    return Recipe(**rest)
