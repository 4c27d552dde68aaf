"""What guidance buys and costs: FID, precision, recall and class agreement against its weight, a row a measurement.

`run_guided` measures what is missing in a network's table, in the order of `PLANS`, and writes each row before it goes
on; `course bench guidance` does so for every network there. Lesson 15 reads the rows.

Photographs are compared with the embedded ones, 5,000 for training and 1,000 unseen, so that the figures can be
measured without a download; their FIDs are therefore not those of the leaderboard.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from course_utils import guidance, metrics, pretrained, runtime
from course_utils._validate import require_count, require_one_of, require_type
from course_utils.classifier import look_at
from course_utils.data import load_images
from course_utils.denoisers import Denoiser
from course_utils.leaderboard.plans import GRIDS, Counted
from course_utils.leaderboard.rows import path_of, read, weights, write
from course_utils.metrics import draw_images, fid, fid_interval, precision_recall, reference, subset
from course_utils.protocols import Denoise
from course_utils.samplers import sample_dpmpp_2m

SAMPLERS = {**metrics.SAMPLERS, "dpmpp_2m": sample_dpmpp_2m}
METHODS = ("classifier-free", "in an interval", "autoguidance", "classifier")
INTERVAL = (-4.0, 3.0)
"""Log-SNRs within which guidance in an interval guides: chosen before anything was measured, and not tuned."""


class GuidancePlan(NamedTuple):
    """A measurement to be made."""

    method: str  # one of METHODS
    w: float
    n: int
    sampler: str = "dpmpp_2m"
    grid: str = "uniform"
    steps: int = 10


@dataclasses.dataclass(frozen=True)
class GuidedRow:
    """One measurement, and all that it depends on."""

    network: str
    sha256: str  # of the network's file, its first twelve digits
    method: str
    w: float
    log_snr_low: float  # guided from here
    log_snr_high: float  # to here
    other: str  # the worse network, or the classifier; "" if there is none
    other_sha256: str
    sampler: str
    grid: str
    steps: int
    nfe: int  # calls of the network a sample, counted
    other_calls: int  # and of the other
    n: int
    seed: int
    fid: float  # of n samples against the training images
    low: float  # a 95 % interval of it: see `metrics.fid_interval`
    high: float
    floor: float  # the same figure for n real images of the test split
    precision: float  # `metrics.precision_recall`, k = 3, among n training images
    recall: float
    real_precision: float  # the same for n real images of the test split
    real_recall: float
    agreement: float  # share of samples that the classifier sees as the class they were asked to be
    references: int  # training images compared with
    features: str
    device: str
    dtype: str

    @property
    def key(self) -> tuple:
        """What makes a measurement another one; device and precision do not."""
        own = self.sha256, self.method, self.w, self.log_snr_low, self.log_snr_high, self.other_sha256
        return *own, self.sampler, self.grid, self.steps, self.n, self.seed


def _sweep(n: int, grid: str, *, worse: bool) -> list[GuidancePlan]:
    """From w = 0 to 5, the most telling first. w = 1 guides nothing: it is the same by all ways but a classifier's."""
    first = {"classifier-free": (1.0, 2.0, 3.0, 5.0, 1.5, 0.0), "in an interval": (3.0, 5.0, 2.0)}
    rest = {"classifier-free": (4.0, 0.5), "in an interval": (1.5, 4.0, 0.0)}
    if worse:  # a worse network is there
        first |= {"autoguidance": (2.0, 3.0, 1.5)}
        rest |= {"autoguidance": (5.0, 4.0, 0.0)}
    return [GuidancePlan(m, w, n, grid=grid) for part in (first, rest) for m, weights in part.items() for w in weights]


PLANS: dict[str, tuple[GuidancePlan, ...]] = {
    "mnist-unet": (
        *_sweep(2000, "uniform", worse=True),
        *(GuidancePlan("classifier", w, 2000) for w in (1.0, 3.0, 5.0)),
        *(GuidancePlan("classifier-free", w, 10_000, "ddpm", "uniform", 25) for w in (1.0, 1.25, 1.5)),
        *(GuidancePlan("autoguidance", w, 10_000, "ddpm", "uniform", 25) for w in (1.5, 2.0)),
    ),
    "cifar10-unet": (*_sweep(500, "quadratic", worse=False), *_sweep(1000, "quadratic", worse=False)),
}
"""By network, what matters most first."""


def guided_denoiser(
    name: str, denoise: Denoise, schedule: Any, plan: GuidancePlan, other: Denoise | None = None
) -> Denoise:
    """The denoiser that a plan guides; `other` is the worse network, or the classifier, (x_t, t) -> logits."""
    require_one_of("method", plan.method, METHODS)
    if plan.method == "classifier-free":
        return denoise if plan.w == 1 else guidance.classifier_free(denoise, plan.w)
    if plan.method == "in an interval":
        return guidance.in_interval(guidance.classifier_free(denoise, plan.w), denoise, schedule, *INTERVAL)
    if other is None:
        raise ValueError(f"other: {plan.method} wants a second network")
    if plan.method == "autoguidance":
        return guidance.away_from(denoise, other, plan.w)
    return guidance.classifier_guidance(denoise, other, schedule, plan.w)


def _other(name: str, method: str) -> str:
    """What the second network of a method is called, "" if there is none."""
    return {"autoguidance": f"{name}-weak", "classifier": f"{name.split('-')[0]}-noisy-classifier"}.get(method, "")


@functools.lru_cache(maxsize=2)
def _train_features(dataset: str, device: str) -> torch.Tensor:
    """What the classifier sees in the embedded training images, one by one, as precision and recall want them."""
    return look_at(reference(dataset, device, False).classifier, load_images(dataset, "train")[0])[0]


def measure_guided(
    name: str,
    denoiser: Denoiser,
    plan: GuidancePlan,
    *,
    seed: int = 0,
    precision: torch.dtype | None = None,
    progress: Callable[[int], object] | None = None,
) -> GuidedRow:
    """Draw a plan's samples, look at them, and return the row. Arguments and errors as of `leaderboard.measure`."""
    require_type("denoiser", denoiser, Denoiser, "a Denoiser")
    require_type("plan", plan, GuidancePlan, "a GuidancePlan")
    device = next(denoiser.parameters()).device
    precision = precision or runtime.pick_precision(device)
    dataset, n = pretrained.recipe_of(name).dataset, plan.n
    real = reference(dataset, str(device), False)
    train = _train_features(dataset, str(device))
    unseen = [real.test[chosen] for chosen in real.draws(n)]
    floor = sum(fid(x, train) for x in unseen) / len(unseen)
    counted, second, other = Counted(denoiser, progress), None, _other(name, plan.method)
    if other:
        network = pretrained.load_network(other, device)
        second = Counted(network if plan.method == "autoguidance" else network.at_times_of(denoiser.schedule))
    start, noise = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
    asked = real.test_labels[real.draws(n)[0]]
    images, _ = draw_images(
        guided_denoiser(name, counted, denoiser.schedule, plan, second),
        denoiser.schedule,
        real.shape,
        n,
        timesteps=GRIDS[plan.grid](denoiser.schedule, plan.steps),
        num_classes=10,
        labels=asked,
        sampler=functools.partial(SAMPLERS[plan.sampler], generator=noise),
        generator=start,
        device=device,
        precision=precision,
    )
    features, seen = look_at(real.classifier, images)
    score = fid_interval(features, train, generator=torch.Generator().manual_seed(seed))
    near = subset(train, min(n, len(train)), torch.Generator().manual_seed(0))
    of_samples, of_real = (precision_recall(x, near) for x in (features, unseen[0]))
    low, high = INTERVAL if plan.method == "in an interval" else (-float("inf"), float("inf"))
    return GuidedRow(
        network=name,
        sha256=weights(name),
        method=plan.method,
        w=float(plan.w),
        log_snr_low=low,
        log_snr_high=high,
        other=other,
        other_sha256=weights(other) if other else "",
        sampler=plan.sampler,
        grid=plan.grid,
        steps=plan.steps,
        nfe=round(counted.images / n),
        other_calls=round(second.images / n) if second else 0,
        n=n,
        seed=seed,
        fid=score.value,
        low=score.low,
        high=score.high,
        floor=floor,
        precision=of_samples.precision,
        recall=of_samples.recall,
        real_precision=of_real.precision,
        real_recall=of_real.recall,
        agreement=(seen == asked).double().mean().item(),
        references=len(train),
        features=f"{dataset}-classifier",
        device=runtime.device_name(device),
        dtype=str(precision).removeprefix("torch."),
    )


def guided_path(name: str, folder: Path | None = None) -> Path:
    """Where a network's rows are."""
    return path_of(f"guidance-{name}", folder)


def load_guided(name: str, folder: Path | None = None) -> list[GuidedRow]:
    """The stored rows of the weights that are shipped now. Raises DataError if the file is damaged."""
    require_one_of("name", name, PLANS)
    now = {"": "", **{shipped: weights(shipped) for shipped in pretrained.read_manifest()}}
    rows = read(guided_path(name, folder), GuidedRow)
    return [row for row in rows if (row.sha256, row.other_sha256) == (now[name], now.get(row.other))]


def missing_guided(name: str, *, seed: int = 0, folder: Path | None = None) -> list[GuidancePlan]:
    """The plans that have no row yet."""
    require_count("seed", seed, least=0)
    there = {
        GuidancePlan(row.method, row.w, row.n, row.sampler, row.grid, row.steps)
        for row in load_guided(name, folder)
        if row.seed == seed and (row.method != "in an interval" or (row.log_snr_low, row.log_snr_high) == INTERVAL)
    }
    return [plan for plan in PLANS[name] if plan not in there]


def run_guided(name: str, *, seed: int = 0, folder: Path | None = None) -> Iterator[GuidedRow]:
    """Measure what is missing, and yield each row once it is in the file. Stop it whenever you like."""
    denoiser = pretrained.load_denoiser(name, runtime.pick_device())
    for plan in missing_guided(name, seed=seed, folder=folder):
        row = measure_guided(name, denoiser, plan, seed=seed)
        write(guided_path(name, folder), GuidedRow, [*read(guided_path(name, folder), GuidedRow), row])
        yield row
