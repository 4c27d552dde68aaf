"""Four ways to teach one network to jump, the same number of steps each, from the same weights: FID by network calls.

`run_distillations` trains and measures what is missing in `data/leaderboard/distillations.csv` and writes the rows of a
way before it goes on; `course bench distillations` calls it, and lesson 14 reads it.

* Every way begins with the weights of `mnist-unet`, in the network of `mnist-onestep`, and takes `STEPS` steps of 32.
  What its teacher is asked is paid for in `seconds`: so is drawing the `PATHS` paths that regression on ends learns.
* Each learns at the rate of `RATES` that was best for it in one call, in trainings of another seed.
* The teacher is guided as for `mnist-onestep`. Consistency training has none: it knows only images.
* Mean flow runs on the straight path and jumps on; the others run on the network's own, and go back up with new noise.
  Its first call is told a noise level that no training reached: the straight path begins where log-SNR is -infinity.
* Regression alone also learns in the features of `mnist-eyes`, which is not the classifier that measures.
* Beside them the teacher itself, without any further training, by two samplers.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from course_utils import metrics, pretrained, recipes, run_folder, runtime, samplers, schedules, tasks
from course_utils._validate import require_one_of
from course_utils.denoisers import Denoiser
from course_utils.leaderboard import rows
from course_utils.training import Training, train

TABLE = "distillations"  # its file, in data/leaderboard

TEACHER, STUDENT = "mnist-unet", "mnist-onestep"
STEPS, BATCH, AVERAGE, PATHS = 1000, 32, 0.99, 4000
RATES, RATE_SEED = (1e-3, 2e-4, 5e-5), 100
N, CALLS = 2000, (1, 2, 4, 8)
WAYS = ("regression on ends", "consistency distillation", "mean flow", "consistency training")
UNTAUGHT: dict[str, Callable[..., Tensor]] = {"DDIM": samplers.sample_ddim, "UniPC-2": samplers.sample_unipc}
Watch = Callable[[str, int, int], object]  # told a way's name, the steps done and all of them


@dataclasses.dataclass(frozen=True)
class DistillationRow:
    """One network at one number of calls, and all that it depends on."""

    way: str  # of WAYS, or of UNTAUGHT
    sha256: str  # of the teacher's file, its first twelve digits
    seed: int  # of the training; the samples' is 0
    lr: float
    steps: int  # of training, 32 rows each
    seconds: float  # processor seconds of all threads that the training took, with the paths it learned from
    nfe: int  # network calls a sample
    n: int
    fid: float
    low: float  # a 95 % interval, for other draws of n samples; it does not cover another training
    high: float
    floor: float
    agreement: float
    device: str
    precision: str

    @property
    def key(self) -> tuple:
        """What makes a measurement another one."""
        return self.way, self.seed, self.lr, self.steps, self.nfe, self.n


def taught(way: str, lr: float, seed: int = 0, watch: Watch | None = None) -> tuple[Any, float]:
    """The averaged network of one way, and the processor seconds that it took.

    Args:
        way: one of `WAYS`.
        lr: peak learning rate.
        watch: told the way, the steps done and all of them.
    """
    require_one_of("way", way, WAYS)
    recipe, device = recipes.RECIPES[STUDENT], runtime.pick_device()
    how, start = dict(recipe.paths or {}), time.process_time()
    if way == "regression on ends":
        task: Any = recipes.make_task(recipe)
        data = recipes.load_data(dataclasses.replace(recipe, paths=how | {"n": PATHS}))
        frozen = {name: pretrained.load_network(network) for name, network in (recipe.frozen or {}).items()}
    else:
        w = how["guidance"]
        task = {
            "consistency distillation": tasks.Consistency(guidance=w, steps=18),
            "consistency training": tasks.Consistency(steps=18),
            "mean flow": tasks.MeanFlow(guidance=w, same=0.25, whole=0.25),
        }[way]
        data = recipes.load_data(recipes.RECIPES[TEACHER])
        frozen = {} if way == "consistency training" else {"teacher": pretrained.load_network(TEACHER)}
    model: Any = run_folder.starting_model(recipe)
    if way == "mean flow":
        model = Denoiser(model.network, schedules.FlowMatching(), "v", model.data_mean, model.data_std)
    kept: dict[str, Any] = {"device": device, "precision": runtime.pick_precision(device)}
    run = Training(model, lr=lr, ema=AVERAGE, frozen=frozen, seed=seed, **kept)
    for record in train(run, *data, steps=STEPS, batch_size=BATCH, warmup=50, task=task):
        if watch:
            watch(way, record.step, STEPS)
    return run.averaged(), time.process_time() - start


def measure_distillations(
    way: str, model: Any, calls: Sequence[int] = CALLS, *, lr: float = 0.0, seed: int = 0, seconds: float = 0.0
) -> list[DistillationRow]:
    """A row for each number of calls. Rate, seed and seconds are those of the training, zero where there was none."""
    device = runtime.pick_device()
    precision = runtime.pick_precision(device)
    sampler = UNTAUGHT.get(way, samplers.sample_flow_map if way == "mean flow" else samplers.sample_consistency)
    found = []
    for nfe in calls:
        grid = samplers.uniform_grid(model.schedule, nfe)
        score = metrics.evaluate(model, "mnist", n=N, sampler=sampler, timesteps=grid, precision=precision)
        assert score.agreement is not None
        found.append(
            DistillationRow(
                way=way,
                sha256=rows.weights(TEACHER),
                seed=seed,
                lr=lr,
                steps=0 if way in UNTAUGHT else STEPS,
                seconds=seconds,
                nfe=nfe,
                n=N,
                fid=score.fid,
                low=score.interval[0],
                high=score.interval[1],
                floor=score.floor,
                agreement=score.agreement.value,
                device=runtime.device_name(device),
                precision=str(precision).removeprefix("torch."),
            )
        )
    return found


def load_distillations(folder: Path | None = None) -> list[DistillationRow]:
    """The stored rows of the teacher that is shipped now. Raises DataError if the file is damaged."""
    now = rows.weights(TEACHER)
    return [row for row in rows.read(rows.path_of(TABLE, folder), DistillationRow) if row.sha256 == now]


def chosen_rate(way: str, there: Sequence[DistillationRow]) -> float:
    """The rate that was best in one call, of the rows of `RATE_SEED`. Raises ValueError if some are not there."""
    wanted = way, RATE_SEED, STEPS, 1, N
    tried = {row.lr: row.fid for row in there if (row.way, row.seed, row.steps, row.nfe, row.n) == wanted}
    if missing := [lr for lr in RATES if lr not in tried]:
        raise ValueError(f"there: wanted {way} at all rates of RATES, got none at {missing}")
    return min(RATES, key=tried.__getitem__)


def run_distillations(
    ways: Sequence[str] = (*UNTAUGHT, *WAYS),
    *,
    seeds: Sequence[int] = (0,),
    folder: Path | None = None,
    watch: Watch | None = None,
) -> Iterator[DistillationRow]:
    """Train and measure what is missing, and yield the rows of a training once they are in the file."""
    for way in ways:
        require_one_of("way", way, (*UNTAUGHT, *WAYS))

    def made(way: str, lr: float, seed: int, calls: Sequence[int]) -> Iterator[DistillationRow]:
        there, steps = {row.key for row in load_distillations(folder)}, 0 if way in UNTAUGHT else STEPS
        calls = [nfe for nfe in calls if (way, seed, lr, steps, nfe, N) not in there]
        if not calls:
            return
        if way in UNTAUGHT:
            model, seconds = pretrained.load_denoiser(TEACHER, runtime.pick_device()), 0.0
        else:
            model, seconds = taught(way, lr, seed, watch)
        found = measure_distillations(way, model, calls, lr=lr, seed=seed, seconds=seconds)
        path = rows.path_of(TABLE, folder)
        rows.write(path, DistillationRow, [*rows.read(path, DistillationRow), *found])
        yield from found

    for way in ways:
        if way in UNTAUGHT:
            yield from made(way, 0.0, 0, CALLS)
            continue
        for lr in RATES:
            yield from made(way, lr, RATE_SEED, (1,))
        for seed in seeds:
            yield from made(way, chosen_rate(way, load_distillations(folder)), seed, CALLS)
