"""The course's own measurements, as `course bench` prints them: ratios in one run, on whatever machine this is.

Nothing here is asserted; run it on an idle machine. Each figure is a median over fresh processes, unless it says other.
"""

import contextlib
import copy
import functools
import itertools
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from course_utils.desk.lesson import ROOT, grade_id, lessons, read_source, tags, without_markers
from course_utils.desk.upkeep.page import web_page
from course_utils.training import Training, train

CHAIN = """
import time, torch
from course_utils import forward, schedules
from course_utils.data import load_images, normalize
g = torch.Generator().manual_seed(0)
x_0, schedule = normalize(load_images("cifar10", "train")[0][:128]), schedules.linear()

def jump():
    t = torch.randint(1, 1001, (128,), generator=g)
    return [forward.q_sample(x_0, t, schedule, forward.noise_like(x_0, g))]

def keep_all_copies():
    return [x_t for _, x_t in forward.q_chain(x_0, schedule, g)]

jump()  # warm-up
for work, times in ((jump, 100), (keep_all_copies, 1)):
    start = time.perf_counter()
    for _ in range(times):
        kept = work()
    print((time.perf_counter() - start) / times, sum(x.nbytes for x in kept))
"""
IMPORT = """
import time
start = time.perf_counter()
import torch
middle = time.perf_counter()
from course_utils import schedules, forward, parameterizations, variational, toy
print(middle - start, time.perf_counter() - middle)
"""


@contextlib.contextmanager
def _watched() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for trainings: what to tell their names, the steps done, and all of them."""
    from tqdm import tqdm

    with tqdm(unit="step", disable=not sys.stderr.isatty()) as bar:

        def watch(name: str, step: int, steps: int) -> None:
            bar.total, bar.n = steps, step
            bar.set_postfix_str(name, refresh=False)
            bar.refresh()

        yield watch


def _medians(code: str, times: int) -> list[float]:
    """The medians of the numbers that `code` prints, over fresh Python processes."""
    rows = []
    for _ in range(times):
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
        rows.append([float(x) for x in done.stdout.split()])
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def forward_process() -> Iterator[str]:
    """128 CIFAR-10 images at random t: the closed form against keeping the whole chain of T = 1000."""
    jump_s, jump_bytes, copies_s, copies_bytes = _medians(CHAIN, times=3)
    yield (
        f"128 CIFAR-10 images at random t: closed form {jump_s * 1e3:.1f} ms and {jump_bytes / 2**20:.1f} MiB, "
        f"all copies of the chain {copies_s:.1f} s and {copies_bytes / 2**20:.0f} MiB: "
        f"{copies_s / jump_s:.0f} times the time, {copies_bytes / jump_bytes:.0f} times the memory"
    )


def imports() -> Iterator[str]:
    """What importing the maths floor costs on top of importing torch."""
    torch_s, ours_s = _medians(IMPORT, times=5)
    yield f"import torch {torch_s:.2f} s, the maths floor on top {ours_s * 1e3:.0f} ms: {ours_s / torch_s:+.1%}"


def repository_size() -> Iterator[str]:
    """The size of what git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    files = [ROOT / f for f in listed.stdout.split("\0") if f and (ROOT / f).is_file()]
    yield f"repository: {sum(f.stat().st_size for f in files) / 2**20:.1f} MiB in {len(files)} files"


TRAINING = """
import statistics, sys, time, torch
from course_utils import recipes, run_folder, runtime
from course_utils.desk.upkeep.rivals import Rival
from course_utils.denoisers.costs import count_flops
from course_utils.training import Training, train

recipe = recipes.RECIPES["mnist-unet"]
images, labels = recipes.load_data(recipe)
ours = Training(recipes.make_model(recipe), precision=runtime.pick_precision(torch.device("cpu")))
theirs = Training(Rival(), precision=torch.float32)
seconds = {}
for name, run, steps in (("ours", ours, 25), ("theirs", theirs, 6)):
    taken = []
    for record in train(run, images, labels, steps=steps):
        taken.append(time.perf_counter())
    seconds[name] = statistics.median(b - a for a, b in zip(taken[2:], taken[3:]))

start = time.perf_counter()
for step in range(50):
    ours.ema.update(ours.model, 1000)
ema = (time.perf_counter() - start) / 50
with open("/dev/null" if sys.platform != "win32" else "nul", "a", buffering=1) as log:
    start = time.perf_counter()
    for step in range(1000):
        log.write(run_folder.log_row(record))
    logging = (time.perf_counter() - start) / 1000
flops = 3 * count_flops(ours.model.network, (1, 28, 28)) * 128  # backward costs twice what forward does
print(seconds["ours"], seconds["theirs"], ema, logging, flops / seconds["ours"])
"""
GIVEN_BACK = """
from course_utils import runs
runs.keep_freed_memory = lambda: None
"""
CONVOLUTION = """
import time, torch
from course_utils import runtime
best, precision = 0.0, runtime.pick_precision(torch.device("cpu"))
for channels, side in ((64, 14), (128, 14), (128, 7), (256, 14)):
    conv = torch.nn.Conv2d(channels, channels, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.randn(128, channels, side, side).to(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        for warm in range(3):
            conv(x).sum().backward()
        start = time.perf_counter()
        for step in range(20):
            y = conv(x)
            y.backward(y.detach())
        seconds = (time.perf_counter() - start) / 20
    best = max(best, 3 * 2 * 9 * channels**2 * side**2 * 128 / seconds)
print(best)
"""
ATTENTION = """
import time, torch
from course_utils.denoisers.attention import SelfAttention
times = []
for side in (14, 20, 28, 40):
    layer, x = SelfAttention(64), torch.randn(8, 64, side, side)
    for warm in range(2):
        layer(x).sum().backward()
    start = time.perf_counter()
    for step in range(5):
        layer(x).sum().backward()
    times.append((time.perf_counter() - start) / 5)
print(*times)
"""
PROFILE = """
import collections, json, torch
from torch.profiler import ProfilerActivity, profile
from course_utils import recipes, runtime
from course_utils.training import Training, train

recipe = recipes.RECIPES["mnist-unet"]
images, labels = recipes.load_data(recipe)
run = Training(recipes.make_model(recipe), precision=runtime.pick_precision(torch.device("cpu")))
for record in train(run, images, labels, steps=3):
    pass
with profile(activities=[ProfilerActivity.CPU]) as seen:
    for record in train(run, images, labels, steps=13):
        pass
kinds = {"conv": "convolution", "norm": "normalisation", "silu": "activation", "mm": "matrix products"}
shares = collections.Counter()
for event in seen.key_averages():
    kind = next((kind for word, kind in kinds.items() if word in event.key), "all else: copies, sums, optimizer, EMA")
    shares[kind] += event.self_cpu_time_total
print(json.dumps({kind: time / shares.total() for kind, time in shares.most_common()}))
"""
SAMPLING = """
import statistics, time, torch
from diffusers import DDIMPipeline, DDIMScheduler
from course_utils import leaderboard, runtime
from course_utils.desk.upkeep.rivals import AsDiffusers
from course_utils.pretrained import load_denoiser

net = load_denoiser("mnist-unet")
precision, label = runtime.pick_precision(torch.device("cpu")), torch.arange(64) % 10

class Timed:
    seconds = 0.0
    def __call__(self, x_t, t, **cond):
        start = time.perf_counter()
        x0_hat = net(x_t, t, label=label, **cond)
        self.seconds += time.perf_counter() - start
        return x0_hat

def ours(plan):
    inside, start = Timed(), time.perf_counter()
    x_T = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    x_T = x_T.contiguous(memory_format=torch.channels_last)
    x = plan.contender.sample(inside, x_T, net.schedule, plan.timesteps, generator=torch.Generator().manual_seed(1))
    return time.perf_counter() - start, inside.seconds, x

scheduler = DDIMScheduler(
    1000,
    net.schedule.betas[1].item(),
    net.schedule.betas[-1].item(),
    timestep_spacing="trailing",
    clip_sample=False,
    prediction_type="sample",
)
pipeline = DDIMPipeline(AsDiffusers(net, label), scheduler)
pipeline.set_progress_bar_config(disable=True)

def theirs(steps):
    start = time.perf_counter()
    pipeline(64, torch.Generator().manual_seed(0), num_inference_steps=steps, output_type="np")
    return time.perf_counter() - start

with torch.no_grad(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
    plans = [leaderboard.plan_within(c, net.schedule, 10) for c in leaderboard.CONTENDERS]
    ddim = leaderboard.plan_within(leaderboard.CONTENDERS[1], net.schedule, 50)
    theirs(50)  # warm-up
    same = pipeline(64, torch.Generator().manual_seed(0), num_inference_steps=50, output_type="np").images
    assert abs(torch.tensor(same).permute(0, 3, 1, 2) - (ours(ddim)[2].clamp(-1, 1) + 1) / 2).mean() < 0.01
    for plan in plans:
        runs = [ours(plan)[:2] for _ in range(5)]
        total, inside = (statistics.median(column) for column in zip(*runs))
        print(plan.contender.sampler, plan.nfe, total, 1 - inside / total)
    pairs = [(ours(ddim)[0], theirs(50)) for _ in range(7)]
    print("pipeline", 50, statistics.median(a for a, b in pairs), statistics.median(a / b for a, b in pairs))
"""
GRADE = """
import resource, sys, time
from course_utils.desk import cli
start = time.perf_counter()
cli.app(["grade", *sys.argv[1:]], standalone_mode=False)
kilo = 1 if sys.platform == "darwin" else 1024
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo)
"""
LESSON = """
import resource, sys, time
from course_utils.desk.authoring.build import execute, solved_notebook
from course_utils.desk.lesson import lessons, repository
(source,) = lessons([sys.argv[1]])
start = time.perf_counter()
execute(solved_notebook(source, repository()), cwd=source.parents[1])
print(time.perf_counter() - start)
kilo = 1 if sys.platform == "darwin" else 1024
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * kilo)
"""


def training() -> Iterator[str]:
    """One training step of ours against diffusers' U-Net of the tutorials; and where our time goes."""
    ours, theirs, ema, logging, flops = _medians(TRAINING, times=3)
    (best,) = _medians(CONVOLUTION, times=3)
    yield (
        f"MNIST training, batch 128: {128 / ours:.0f} images/s, diffusers' UNet2DModel in float32 {128 / theirs:.0f}: "
        f"{theirs / ours:.1f} times; {flops / best:.0%} of the rate of the fastest lone convolution "
        f"({flops / 1e9:.0f} of {best / 1e9:.0f} GFLOP/s)"
    )
    yield f"of a step: EMA {ema / ours:.2%}, a row of the log {logging / ours:.3%}"
    given_back, *_ = _medians(GIVEN_BACK + TRAINING, times=3)
    yield f"with the memory of freed tensors given back to the system each time: {128 / given_back:.0f} images/s"
    done = subprocess.run([sys.executable, "-c", PROFILE], stdout=subprocess.PIPE, text=True, check=True)
    shares = json.loads(done.stdout.strip().splitlines()[-1])
    yield "its time: " + ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())


def attention() -> Iterator[str]:
    """How the time of self-attention grows with the number of positions: the slope between neighbours, log-log."""
    sides, times = (14, 20, 28, 40), _medians(ATTENTION, times=3)
    yield "self-attention, 64 channels: time grows as (H W)^" + ", ^".join(
        f"{math.log(later / before) / math.log((b / a) ** 2):.2f} ({a}² to {b}²)"
        for (a, before), (b, later) in itertools.pairwise(zip(sides, times, strict=True))
    )


def race(minutes: Sequence[float] = (3, 5, 10, 15), n: int = 1000, steps: int = 20) -> Iterator[str]:
    """FID of our MNIST recipe and of the tutorials' network after equal times of training; evaluation is not counted.

    Ours by its recipe; theirs as the tutorials say, eps at uniform times in batches of 128 at a rate of 1e-3. Both have
    the same EMA and warm-up, and a rate that falls to zero at the last of the minutes. Ours is measured once more at
    the end, as the shipped networks are, and then with a little guidance.
    """
    from course_utils import metrics, recipes, runtime
    from course_utils.desk.upkeep.rivals import Rival
    from course_utils.samplers import sample_ddpm, uniform_grid
    from course_utils.schedules import linear

    recipe, cpu = recipes.RECIPES["mnist-unet"], torch.device("cpu")
    images, labels = recipes.load_data(recipe)
    grid = uniform_grid(linear(1000), steps)
    by_recipe: dict[str, Any] = {"task": recipes.make_task(recipe), "batch_size": recipe.batch_size}
    contenders = {
        "ours": (recipes.make_model(recipe), runtime.pick_precision(cpu), recipe.lr, by_recipe),
        "UNet2DModel": (Rival(), torch.float32, 1e-3, {"weighting": "eps", "times": "uniform", "batch_size": 128}),
    }
    for name, (model, precision, lr, how) in contenders.items():
        trial = Training(copy.deepcopy(model), precision=precision)
        taken = [time.perf_counter() for _ in train(trial, images, labels, steps=8, **how)]
        total = max(1, int(minutes[-1] * 60 / statistics.median(b - a for a, b in itertools.pairwise(taken[2:]))))
        run, marks, spent = Training(model, lr=lr, precision=precision), list(minutes), 0.0
        start = time.perf_counter()
        for record in train(run, images, labels, steps=total, warmup=recipe.warmup, **how):
            if spent + time.perf_counter() - start >= 60 * marks[0] or record.step == total:
                spent += time.perf_counter() - start
                score = metrics.evaluate(run.averaged(), "mnist", n=n, timesteps=grid, precision=precision)
                yield f"{name} after {spent / 60:.1f} min, {record.step * how['batch_size']:,} images: {score}"
                marks.pop(0)
                if not marks:
                    break
                start = time.perf_counter()
        if name == "ours":
            averaged = run.averaged()
            for w in (1.0, 1.2):
                score = metrics.evaluate(
                    averaged, "mnist", n=10_000, sampler=sample_ddpm, guidance=w, precision=precision
                )
                yield f"{name} at the end: {score}"


def sampling() -> Iterator[str]:
    """64 digits from the shipped U-Net: seconds at ten network calls, the sampler's own share, diffusers' pipeline."""
    done = subprocess.run([sys.executable, "-c", SAMPLING], stdout=subprocess.PIPE, text=True, check=True)
    for line in done.stdout.splitlines():
        name, nfe, seconds, share = line.split()
        if name == "pipeline":
            yield f"DDIM, {nfe} calls: {float(seconds):.2f} s, {float(share):.2f} times diffusers' pipeline"
        else:
            yield f"64 digits, {name}, {nfe} calls: {float(seconds):.2f} s, {float(share):.1%} the sampler's own"


def fewer_steps(n: int = 5000, seed: int = 1000) -> Iterator[str]:
    """One run on `mnist-unet`: FID with the optimal variance at 25 steps; a learned grid of 8 steps against fixed ones.

    The grid is learned as in lesson 13, by DPM-Solver++ 2M from the uniform one; it is judged on noises of other seeds:
    how far from where forty steps end, root mean square over images, and FID. Differences from the learned grid are
    paired, noise by noise, with a 95 % interval.
    """
    from course_utils import leaderboard, metrics, runtime, samplers, variational
    from course_utils.classifier import look_at
    from course_utils.data import denormalize, load_images, normalize
    from course_utils.pretrained import load_denoiser
    from course_utils.samplers import step_selection

    device = runtime.pick_device()
    precision = runtime.pick_precision(device)
    net, real = load_denoiser("mnist-unet", device), metrics.reference("mnist", str(device))
    moving, schedule = step_selection.in_continuous_time(net), net.schedule
    chosen = torch.randperm(60_000, generator=torch.Generator().manual_seed(seed))[:500]
    x_0, label = (values[chosen].to(device) for values in load_images("mnist"))
    autocast = torch.autocast(device.type, precision, enabled=precision != torch.float32)

    def score(images: torch.Tensor) -> str:
        found = metrics.fid_interval(
            look_at(real.classifier, images)[0], real.train, generator=torch.Generator().manual_seed(seed)
        )
        return f"FID {found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"

    times = samplers.uniform_grid(schedule, 25)
    with autocast:
        generator = torch.Generator().manual_seed(seed)
        mse = variational.denoising_errors(net, normalize(x_0), schedule, times, generator=generator, label=label)
    variances = {
        "posterior": variational.posterior_variance,
        "forward": variational.beta_variance,
        "optimal": variational.optimal_variance(mse),
    }
    floor = f"real digits {metrics.floor_of('mnist', n, str(device)):.4f}, n = {n:,}"
    for steps, name in ((25, "optimal"), (25, "posterior"), (25, "forward"), (50, "posterior"), (50, "forward")):
        generator = torch.Generator().manual_seed(seed)
        images, _ = metrics.draw_images(
            net,
            schedule,
            (1, 28, 28),
            n,
            timesteps=samplers.uniform_grid(schedule, steps),
            num_classes=10,
            labels=real.test_labels[real.draws(n)[0]],
            sampler=functools.partial(samplers.sample_ddpm, variance=variances[name], generator=generator),
            generator=generator,
            device=device,
            precision=precision,
        )
        yield f"{steps} uniform steps, {name} variance: {score(images)}; {floor}"

    def solved(grid: Sequence[float], count: int, seed: int) -> torch.Tensor:
        x_T = torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed)).to(device)
        label = real.test_labels[real.draws(n)[0]][:count].to(device)
        with autocast:
            pieces = [
                samplers.sample_dpmpp_2m(moving, x, moving.schedule, grid, label=y)
                for x, y in zip(x_T.split(250), label.split(250), strict=True)
            ]
        return torch.cat(pieces)

    eight = {name: make(moving.schedule, 8) for name, make in leaderboard.GRIDS.items()}
    slow, homework = samplers.log_snr_grid(moving.schedule, 40), 200
    with autocast:
        *_, last = step_selection.learn_times(
            moving,
            torch.randn(homework, 1, 28, 28, generator=torch.Generator().manual_seed(1)).to(device),
            solved(slow, homework, seed=1),
            moving.schedule,
            eight["uniform"],
            steps=100,
            batch_size=20,
            generator=torch.Generator().manual_seed(0),
            label=real.test_labels[real.draws(n)[0]][:homework].to(device),
        )
    eight["learned"] = last.timesteps
    ends = {name: solved(grid, n, seed=2) for name, grid in eight.items()}
    target = solved(slow, 1000, seed=2)
    far = {name: (x[:1000] - target).square().flatten(1).mean(1) for name, x in ends.items()}
    for name, x in ends.items():
        more = far[name] - far["learned"]
        yield (
            f"8 steps, {name}: {far[name].mean().sqrt():.4f} from the teacher; squared, {more.mean():.5f} ± "
            f"{1.96 * more.std() / len(more) ** 0.5:.5f} more than learned; {score(denormalize(x).cpu())}; {floor}"
        )


ONE_STEP = "one-step"  # the table of `one_step`, in data/leaderboard


def one_step(n: int = 10_000, calls: Sequence[int] = (1, 2, 4, 8)) -> Iterator[str]:
    """`mnist-onestep` beside DDIM and UniPC on `mnist-unet`, at equal network calls; its teacher; digits a second.

    Rows that are not in data/leaderboard/one-step.csv yet are measured and written there.
    """
    from course_utils import leaderboard, metrics, pretrained, runtime, samplers
    from course_utils.leaderboard.rows import weights

    device = runtime.pick_device()
    contenders: dict[str, dict[str, Callable[..., torch.Tensor]]] = {
        "mnist-onestep": {"flow_map": samplers.sample_flow_map, "consistency": samplers.sample_consistency},
        "mnist-unet": {"ddim": samplers.sample_ddim, "unipc_2": samplers.sample_unipc},
    }
    for name, them in contenders.items():
        denoiser = pretrained.load_denoiser(name, device)
        for (label, sample), k in itertools.product(them.items(), calls):
            there = [row for row in leaderboard.load(ONE_STEP) if row.sha256 == weights(row.network)]
            contender = leaderboard.Contender(label, sample, "uniform")
            plan = leaderboard.Plan(contender, samplers.uniform_grid(denoiser.schedule, k), k)
            key = weights(name), label, "uniform", k, n, 0
            row = next((row for row in there if row.key == key), None)
            if row is None:
                row = leaderboard.measure(name, denoiser, plan, n=n)
                leaderboard.save([*there, row], ONE_STEP)
            yield (
                f"{name}, {label}, {row.nfe} calls: FID {row.fid:.4f} [{row.low:.4f}, {row.high:.4f}]; real digits "
                f"{row.floor:.4f}, n = {n:,}, {row.precision}"
            )
    recipe = pretrained.recipe_of("mnist-onestep")
    yield f"mnist-onestep learned from {recipe.steps * recipe.batch_size:,} paths, one at a time"
    how = recipe.paths or {}
    teacher = pretrained.load_denoiser(how["of"], device)
    yield "what it imitates: " + str(
        metrics.evaluate(
            teacher,
            "mnist",
            n=n,
            sampler=samplers.sample_dpmpp_2m,
            timesteps=samplers.uniform_grid(teacher.schedule, how["steps"]),
            guidance=how["guidance"],
            precision=runtime.pick_precision(device),
        )
    )
    denoiser, label = pretrained.load_denoiser("mnist-onestep", device), torch.tensor([3], device=device)
    noise, times = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)).to(device), []
    with torch.no_grad():
        for _ in range(120):
            start = time.perf_counter()
            denoiser(noise, 1000, r=0, label=label).cpu()
            times.append(time.perf_counter() - start)
    yield f"one digit a call, {runtime.device_name(device)}: {1 / statistics.median(times[20:]):.0f} a second"


def distillations(seeds: int = 1) -> Iterator[str]:
    """Four ways to teach `mnist-unet` to jump, and the teacher untaught: what is missing in the stored table.

    The rows of each way are in data/leaderboard/distillations.csv before the next begins: stop it whenever you like. On
    one thread, since seconds are the processor's.
    """
    from course_utils.leaderboard.distillations import run_distillations

    torch.set_num_threads(1)
    with _watched() as watch:
        for row in run_distillations(seeds=range(seeds), watch=watch):
            yield (
                f"{row.way}, seed {row.seed}, rate {row.lr:g}, {row.steps:,} steps in {row.seconds:.0f} s, {row.nfe} "
                f"calls: FID {row.fid:.4f} [{row.low:.4f}, {row.high:.4f}] (real {row.floor:.4f}, n = {row.n:,}), "
                f"agreement {row.agreement:.1%}"
            )


def guided() -> Iterator[str]:
    """FID, precision, recall and class agreement against the weight of guidance, what is missing in the stored tables.

    Each row is in `data/leaderboard/guidance-NAME.csv` before the next begins: stop it whenever you like.
    """
    from course_utils import leaderboard

    for name in leaderboard.GUIDANCE_PLANS:
        for row in leaderboard.run_guided(name):
            yield (
                f"{name}, {row.method}, w = {row.w:g}, {row.sampler}, {row.nfe} + {row.other_calls} calls, "
                f"n = {row.n:,}: FID {row.fid:.4f} [{row.low:.4f}, {row.high:.4f}] (real {row.floor:.4f}), precision "
                f"{row.precision:.3f} ({row.real_precision:.3f}), recall {row.recall:.3f} ({row.real_recall:.3f}), "
                f"agreement {row.agreement:.1%}"
            )


def gans(seeds: int = 5) -> Iterator[str]:
    """GANs against diffusion: ten seeds on points, and `seeds` on digits, what is missing in the stored tables.

    Each row is in data/leaderboard/duel-points.csv or duel-digits.csv before the next begins: stop it whenever you
    like. On one thread, since a budget is in seconds of the processor.
    """
    from course_utils.leaderboard import duel_digits, duel_points

    torch.set_num_threads(1)
    for points in duel_points.run_points():
        yield (
            f"{points[0].world}, {points[0].method}, {points[0].steps} steps: modes {[row.found for row in points]}, "
            f"good {[round(row.good, 2) for row in points]}, KL {[round(row.reverse_kl, 3) for row in points]}"
        )
    for row in duel_digits.run_digits(range(seeds)):
        yield (
            f"digits, seed {row.seed}, {row.method} at equal {row.budget}, {row.steps} steps, {row.flops:.3g} FLOPs, "
            f"{row.seconds:.1f} s: FID {row.fid:.3g} [{row.low:.3g}, {row.high:.3g}] (real {row.floor:.3g}, n = "
            f"{row.n:,}), precision {row.precision:.2f}, recall {row.recall:.2f} ({row.real_recall:.2f}), KL of the "
            f"classes {row.class_kl:.3f}; {1000 * row.one:.1f} ms a picture, {row.calls} calls"
        )


def architectures(*names: str) -> Iterator[str]:
    """U-Net, DiT and Swin at equal training FLOPs and at equal seconds, what is missing in the stored table.

    Digits first, then photographs. Each row is in `data/leaderboard/architectures.csv` before the next training begins:
    stop it whenever you like.
    """
    from course_utils.leaderboard.architectures import NETWORKS, run_architectures

    for name in names or NETWORKS:
        for row in run_architectures(name):
            yield (
                f"{name}, {row.architecture}, equal {row.equal} {row.budget:g}, seed {row.seed}, rate {row.lr:g}, "
                f"{row.steps} steps: held-out loss {row.loss:.4f}, FID {row.fid:.3f} [{row.low:.3f}, {row.high:.3f}] "
                f"(real {row.floor:.3f}, n = {row.n:,})"
            )


def memory() -> Iterator[str]:
    """Copies of training digits, against their number, the steps and regularisers: what is missing in the stored table.

    Each network's rows are in `data/leaderboard/memory.csv` before the next is trained: stop it whenever you like.
    """
    from course_utils import leaderboard, metrics

    for row in leaderboard.run_memory():
        copies, alarms = (metrics.share(hits, row.samples) for hits in (row.copies, row.false_alarms))
        yield (
            f"{row.n} digits, {row.regulariser}, seed {row.seed}, {row.steps} steps, average {row.average:g}: copies "
            f"{copies} of {row.samples} (unseen digits {alarms}), loss {row.train_loss:.3f} ({row.unseen_loss:.3f}), "
            f"agreement {row.agreement:.1%} (real {row.real_agreement:.1%})"
        )


def scale() -> Iterator[str]:
    """One network, a cascade, and a latent one, trained at equal cost: what is missing in the stored table of FIDs."""
    from course_utils import leaderboard

    for row in leaderboard.run_scale():
        yield (
            f"{row.way}, r = {row.r}, {row.calls} calls, n = {row.n:,}: FID {row.fid:.4f} [{row.low:.4f}, "
            f"{row.high:.4f}] (real {row.floor:.4f}), agreement {row.agreement:.1%}; training "
            f"{row.training_flops / 1e12:.1f} TFLOP, a sample {row.sample_flops / 1e6:.0f} MFLOP"
        )


def photographs(*ways: str, seeds: Sequence[int] = (), photographs: int | None = None) -> Iterator[str]:
    """What lets a network of photographs learn more from as many: what is missing in the stored table, then the table.

    All ideas, or those named, each against the baseline. A row is in `data/leaderboard/photographs.csv` before the next
    begins, and runs lie in `.cache/photographs`: stop it whenever you like. Needs the whole of CIFAR-10.
    """
    from course_utils.leaderboard import photographs as board
    from course_utils.leaderboard.show import table_of_photographs

    with _watched() as watch:
        for row in board.run_photographs(
            ROOT / ".cache" / board.TABLE,
            ways or tuple(board.WAYS),
            seeds=seeds or (0,),
            photographs=photographs or board.PHOTOGRAPHS,
            watch=watch,
        ):
            less = f"{row.difference:+.4f} [{row.difference_low:+.4f}, {row.difference_high:+.4f}]"
            yield (
                f"{row.way}, average {row.average:g}, seed {row.seed}, {row.steps} steps, {row.seconds:.0f} core s: "
                f"held-out loss {row.loss:.4f}, less the baseline's {less}, FID {row.fid:.3f} [{row.low:.3f}, "
                f"{row.high:.3f}] (real {row.floor:.3f}, n = {row.n:,}), agreement {row.agreement:.1%}"
            )
    yield table_of_photographs(board.load_photographs())


HOSTILE = (
    "while True: pass",
    "import os; os._exit(0)",
    "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
    "x = [bytearray(1 << 28) for _ in range(1000)]",
    "import os\nwhile True: os.fork()",
    "print('x' * (1 << 30))",
    "import socket; socket.create_connection(('192.0.2.1', 80), 5)",
    "open('/etc/passwd', 'w').write('x')",
    "import sys; sys.stdout.buffer.write(bytes(1 << 20)); sys.stdout.flush()",
    "import torch; torch.allclose = torch.equal = lambda *a, **k: True",
)


def make_class(folder: Path, lesson: str, n: int, hostile: int) -> None:
    """n notebooks for a lesson: most right, some with a blank or a wrong answer; the first few with a hostile one."""
    from course_utils.desk.grading.release import handed_out

    (source,) = lessons([lesson])
    cells = [cell for cell in read_source(source).cells if "exercise" in tags(cell)]
    answers = {grade_id(cell.metadata["exercise"]): without_markers(cell.source) for cell in cells}
    for k in range(n):
        notebook = copy.deepcopy(handed_out(source))
        mine = dict(answers)
        some = list(mine)[k % len(mine)]
        if k < hostile:
            mine[some] += "\n" + HOSTILE[k % len(HOSTILE)]
        elif k % 3 == 1:
            del mine[some]
        elif k % 3 == 2:
            mine[some] = mine[some].replace("return ", "return 2 * ")
        for cell in notebook["cells"]:
            name = cell["metadata"].get("nbgrader", {}).get("grade_id", "")
            cell["source"] = mine.get(name, cell["source"])
        (folder / f"learner{k:03d}").mkdir(parents=True)
        (folder / f"learner{k:03d}" / f"{source.stem}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")


def grading(lesson: str = "01") -> Iterator[str]:
    """`course grade` on made-up classes of growing size, one run each: seconds a submission, the grader's memory."""
    for n, jobs, hostile in ((50, 1, 0), (50, 2, 0), (100, 2, 0), (300, 2, 10)):
        with tempfile.TemporaryDirectory() as folder:
            make_class(Path(folder, "in"), lesson, n, hostile)
            command = [sys.executable, "-c", GRADE, f"{folder}/in", "--out", f"{folder}/out", "--lessons", lesson]
            done = subprocess.run([*command, "--jobs", str(jobs)], stdout=subprocess.PIPE, text=True, check=True)
            seconds, peak = map(float, done.stdout.split()[-2:])
            rows = Path(folder, "out", "grades.csv").read_text(encoding="utf-8").count("\n") - 1
        yield (
            f"{n} submissions to lesson {lesson}, {hostile} of them hostile, {jobs} at a time: {seconds:.0f} s, "
            f"{seconds / n:.2f} s each; {rows} graded; the grader itself at most {peak / 2**20:.0f} MiB"
        )


def lesson_seconds(*names: str, write: bool = False) -> Iterator[str]:
    """Seconds each lesson takes from top to bottom in a fresh kernel, the first time and once more; peak memory.

    With `write` once alone, and README has it, in the column of machines that have bfloat16 or of those that do not.
    """
    from course_utils.desk.upkeep.readme import write_seconds
    from course_utils.runtime import pick_precision

    precision = str(pick_precision(torch.device("cpu"))).removeprefix("torch.")
    for source in lessons(list(names) or None):
        command = [sys.executable, "-c", LESSON, source.stem[:2]]
        runs = [
            subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
            for _ in range(1 if write else 2)
        ]
        first, *again = (float(run[-2]) for run in runs)
        once_more = "".join(f", again {seconds:.0f} s" for seconds in again)
        peak = max(float(run[-1]) for run in runs)
        yield f"{source.stem}: {first:.0f} s{once_more}; at most {peak / 2**30:.1f} GiB ({precision})"
        if write:
            write_seconds(ROOT / "README.md", {source.stem[:2]: first}, precision)


def faults(n: int = 100) -> Iterator[str]:
    """Small faults drawn at random in the modules of the maths and sample floors: does a fast test notice?"""
    from course_utils.desk.upkeep import mutants

    noticed = 0
    if mutants.is_noticed("toy.py", mutants.source_of("toy.py")):
        raise RuntimeError("a fast test fails, or is too slow, without any fault: run `make check` first")
    for mutant in mutants.sampled(n):
        if mutants.is_noticed(mutant.id, mutant.source):
            noticed += 1
        else:
            yield f"lives: {mutant.id}, {mutant.change}"
    yield f"of {n} small faults in the code of the maths and sample floors the tests notice {noticed}"


def assertions(*names: str, **among: Sequence) -> Iterator[str]:
    """The assertions of the lessons named, of all otherwise, with other `seeds`, `threads` and `precisions`."""
    from course_utils.desk.upkeep.robust import circumstances, robust

    yield from robust(names, runs=circumstances(**among))


PARTS: dict[str, Callable[..., Iterator[str]]] = {
    "size": repository_size,
    "imports": imports,
    "forward": forward_process,
    "attention": attention,
    "training": training,
    "sampling": sampling,
    "lessons": lesson_seconds,
    "book": web_page,
    "steps": fewer_steps,
    "onestep": one_step,
    "distillations": distillations,
    "guidance": guided,
    "gan": gans,
    "scale": scale,
    "memory": memory,
    "architectures": architectures,
    "photographs": photographs,
    "grading": grading,
    "faults": faults,
    "race": race,
    "robust": assertions,
}
LONG = (
    "book",
    "steps",
    "onestep",
    "distillations",
    "guidance",
    "gan",
    "scale",
    "memory",
    "architectures",
    "photographs",
    "grading",
    "faults",
    "race",
    "robust",
)  # only if named
