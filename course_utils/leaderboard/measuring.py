"""Measuring: draw a plan's samples, look at them, and make a row of it.

Every sampler starts from the same noise, of the same seed, and is drawn in the precision that suits the machine.

What precision does to FID: five rows of `mnist-unet` with n = 1000 (DDIM, UniPC-3 on the quadratic grid and DDPM at 10
calls, the first two at 20) drawn in float32 instead of bfloat16, from the same noises, differ by -0.0003 to -0.0000.
The standard error of such a difference is 0.0002 to 0.0007 (bootstrap over the noises), a row's interval ± 0.04. To
repeat it, `measure(name, denoiser, plan, n=1000, precision=p)` for both p.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from course_utils import pretrained, runtime
from course_utils._contract import Count, In, OneOf, Sizes, Whole, checked
from course_utils._validate import require_one_of
from course_utils.classifier import look_at
from course_utils.data import load_images
from course_utils.denoisers import Denoiser
from course_utils.leaderboard.plans import BUDGETS, CONTENDERS, GRIDS, Contender, Counted, Plan, plan_within, planned
from course_utils.leaderboard.rows import Row, load, save, weights
from course_utils.metrics import draw_images, fid_interval, floor_of, reference

Seed = Annotated[int, Whole(0)]
Many = Annotated[int, Whole(2)]
"""Samples: two or more, or their spread is unknown."""


@checked
def measure(
    name: str,
    denoiser: Denoiser,
    plan: Plan,
    *,
    n: Many,
    seed: Seed = 0,
    precision: torch.dtype | None = None,
    progress: Callable[[int], object] | None = None,
) -> Row:
    """Draw n samples by a plan, look at them, and return the row.

    Args:
        name: of a shipped network.
        denoiser: that network, on the device to draw on.
        precision: of the drawing; `runtime` chooses unless told.
        progress: called with the number of images after each network call.

    Raises:
        ValueError: n out of range, or a sampler that returns something other than images of the shape of x_T.
        DataError: a file is missing or damaged.
    """
    device = next(denoiser.parameters()).device
    precision = precision or runtime.pick_precision(device)
    recipe = pretrained.recipe_of(name)
    real, floor = reference(recipe.dataset, str(device)), floor_of(recipe.dataset, n, str(device))
    counted, seconds = Counted(denoiser, progress), []
    start, noise = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)

    def sampler(denoise, x_T, schedule, timesteps, **cond):
        """The contender; comes back when the device is done."""
        began = time.perf_counter()
        x = plan.contender.sample(denoise, x_T, schedule, timesteps, generator=noise, **cond)
        if not isinstance(x, Tensor) or x.shape != x_T.shape:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{plan.contender.sampler}: wanted images of shape {tuple(x_T.shape)} back, got {got}")
        x = x.cpu()
        seconds.append((time.perf_counter() - began) / len(x))
        return x

    images, _ = draw_images(
        counted,
        denoiser.schedule,
        real.shape,
        n,
        timesteps=plan.timesteps,
        num_classes=recipe.network.get("num_classes", 0),
        labels=real.test_labels[real.draws(n)[0]],
        sampler=sampler,
        generator=start,
        device=device,
        precision=precision,
    )
    features, _ = look_at(real.classifier, images)
    score = fid_interval(features, real.train, generator=torch.Generator().manual_seed(seed))
    return Row(
        network=name,
        sha256=weights(name),
        sampler=plan.contender.sampler,
        grid=plan.contender.grid,
        steps=len(plan.timesteps) - 1,
        nfe=math.ceil(counted.images / n),
        n=n,
        seed=seed,
        fid=score.value,
        low=score.low,
        high=score.high,
        bias=score.bias,
        floor=floor,
        features=f"{recipe.dataset}-classifier",
        seconds=min(seconds),
        device=runtime.device_name(device),
        precision=str(precision).removeprefix("torch."),
    )


@checked
def affordable(
    sizes: Annotated[Sequence[int], Sizes()],
    *,
    calls: Count,
    seconds: Annotated[float, In("(0, inf)")],
    name: str = "mnist-unet",
) -> int:
    """The largest of these numbers of samples that this machine draws in the time given, else the smallest.

    Judged by two batches of 50 through the network, of which the faster counts; what a sampler does beside is little.

    Args:
        sizes: to choose from, such as the n of stored tables.
        calls: of the network for a sample.
        name: of the network.
    """
    device, recipe = runtime.pick_device(), pretrained.recipe_of(name)
    denoiser, precision = pretrained.load_denoiser(name, device), runtime.pick_precision(device)
    x_t = torch.zeros(50, *load_images(recipe.dataset, "test", n=1)[0].shape[1:], device=device)
    taken = []
    with torch.no_grad(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
        for _ in range(2):
            began = time.perf_counter()
            denoiser(x_t, 500).cpu()  # comes back when the device is done
            taken.append((time.perf_counter() - began) / len(x_t))
    return max((n for n in sizes if n * calls * min(taken) <= seconds), default=min(sizes))


@checked
def missing(
    name: str = "mnist-unet",
    *,
    n: Many = 1000,
    seed: Seed = 0,
    budgets: Sequence[int] = BUDGETS,
    samplers: Sequence[str] = (),
    folder: Path | None = None,
) -> list[Plan]:
    """What is still to be measured: no row has the same weights, sampler, grid, steps, n and seed; see `run`."""
    require_one_of("name", name, pretrained.read_manifest())
    for sampler in samplers:
        require_one_of("samplers", sampler, dict.fromkeys(contender.sampler for contender in CONTENDERS))
    sha256 = weights(name)
    there = {row.key for row in load(name, folder)}
    schedule = pretrained.load_denoiser(name).schedule

    def key(plan: Plan) -> tuple:
        return sha256, plan.contender.sampler, plan.contender.grid, len(plan.timesteps) - 1, n, seed

    wanted = [plan for plan in planned(schedule, budgets) if not samplers or plan.contender.sampler in samplers]
    return [plan for plan in wanted if key(plan) not in there]


def run(
    name: str = "mnist-unet",
    *,
    n: int = 1000,
    seed: int = 0,
    budgets: Sequence[int] = BUDGETS,
    samplers: Sequence[str] = (),
    folder: Path | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Row]:
    """Measure what is missing, and yield each row once it is in the file. Stop it whenever you like.

    Each row is drawn in the precision that suits the machine, whatever the table was begun in, and says which.

    Args:
        name: a shipped network.
        n: samples a row. Figures of another n cannot be compared; their rows stand beside these in the file.
        seed: of the noise that every sampler starts from.
        budgets: network calls a sample; from LONGEST on for DDPM alone.
        samplers: of CONTENDERS these alone; all if none are named.
        folder: of the table; `data/leaderboard` unless told.
        progress: called with the number of images after each network call: sum(plan.nfe) n of them in all.
    """
    denoiser = pretrained.load_denoiser(name, runtime.pick_device())
    for plan in missing(name, n=n, seed=seed, budgets=budgets, samplers=samplers, folder=folder):
        row = measure(name, denoiser, plan, n=n, seed=seed, progress=progress)
        save([*load(name, folder), row], name, folder)
        yield row


@checked
def add(
    label: str,
    sample: Callable[..., Tensor],
    *,
    grid: Annotated[str, OneOf(GRIDS)] = "log_snr",
    budget: int = 10,
    n: Many = 1000,
    seed: Seed = 0,
    name: str = "mnist-unet",
    progress: Callable[[int], object] | None = None,
) -> Row:
    """Measure a sampler of your own at the leaderboard's settings, in this machine's precision. Nothing is written.

    Args:
        label: the row's name.
        sample: `sample(denoise, x_T, schedule, timesteps, *, generator=None, **cond) -> x_0`, as every sampler here;
            what is in `cond` goes on to the denoiser.
        grid: "uniform", "quadratic", "log_snr" or "karras".
        budget: network calls a sample; as many steps as stay within it are taken.
        n, seed: those of the rows to compare with.

    Raises as `measure` does; ValueError for an unknown grid.
    """
    denoiser = pretrained.load_denoiser(name, runtime.pick_device())
    plan = plan_within(Contender(label, sample, grid), denoiser.schedule, budget)
    return measure(name, denoiser, plan, n=n, seed=seed, progress=progress)
