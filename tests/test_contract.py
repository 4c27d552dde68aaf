"""The signature is the contract: what `@checked` reads from annotations, whose parts will do, and where NaN is found.

And what a sampler's step costs in waits for a GPU.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import numpy as np
import pytest
import simgpu
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from course_utils import samplers, variational
from course_utils._contract import DOUBLE, FINITE, Count, In, Is, OneOf, Sizes, Whole, checked
from course_utils.denoisers import AttentionDenoiser, Denoiser, UNet
from course_utils.denoisers.attention import SelfAttention
from course_utils.forward import q_posterior, q_sample
from course_utils.guidance import classifier_free
from course_utils.metrics import precision_recall
from course_utils.protocols import Counted, Denoise, Schedule
from course_utils.reverse_steps import VariationalJump, sample_jumps
from course_utils.samplers import step_selection
from course_utils.schedules import Grid, LossAwareSampler, VPCosine, VPLinear, cosine, linear
from course_utils.toy import GaussianMixture, IdealDenoiser
from course_utils.variational import optimal_variance

S, X = linear(10), torch.zeros(2, 3)
SAMPLERS = {
    "ddpm": samplers.sample_ddpm,
    "ddim": samplers.sample_ddim,
    "ddim with noise": functools.partial(samplers.sample_ddim, eta=0.5),
    "euler": samplers.sample_euler,
    "heun": samplers.sample_heun,
    "2s": samplers.sample_dpmpp_2s,
    "2m": samplers.sample_dpmpp_2m,
    "unipc": functools.partial(samplers.sample_unipc, order=3),
}
each_sampler = pytest.mark.parametrize("sample", SAMPLERS.values(), ids=SAMPLERS)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


# --- what a signature says -------------------------------------------------------------------------------------------


@checked
def f(
    x: Float[Tensor, "b *shape"] = X,
    y: Float[Tensor, "b *shape"] | None = None,
    label: Int[Tensor, "b"] | None = None,
    square: Float[Tensor, "n n"] = X[:, :2],
    finite: Annotated[Float[Tensor, "..."], FINITE] = X,
    images: UInt8[Tensor, "..."] | None = None,
    variance: Float[Tensor, "..."] | float = 1.0,
    *,
    n: Count = 1,
    depth: Annotated[int, Whole(2)] = 2,
    low: Annotated[float, In("[-inf, inf)")] = 0.0,
    high: Annotated[float, In("(low, inf]")] = 1.0,
    error: Annotated[float, In("(0, 1]")] | None = None,
    kind: Annotated[str, OneOf(("eps", "v"))] = "v",
    widths: Annotated[Sequence[int], Sizes(2)] = (1, 2),
    errors: Annotated[Mapping[int, float], Is("errors by their times")] = {},
    schedule: Schedule = S,
    counted: Counted = S,
    timesteps: Grid = (10, 0),
    denoise: Denoise = abs,
    g: Callable[[Tensor], Tensor] = abs,
    generator: torch.Generator | None = None,
    network: nn.Module | None = None,
    free: object = None,
):
    return "reached"


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ({"x": [0.0]}, TypeError, "x: wanted a tensor, got list"),
        ({"x": X.long()}, TypeError, "x: wanted floating-point numbers, got torch.int64; uint8 images go through"),
        ({"x": torch.tensor(0.0)}, ValueError, "x: wanted shape (b, *shape), got ()"),
        ({"x": X, "y": X[:, :2]}, ValueError, "y: wanted the shape of x, (2, 3), got (2, 2)"),
        ({"x": X, "y": X.double()}, TypeError, "y: wanted the dtype of x, torch.float32, got torch.float64"),
        ({"x": X, "y": X.to("meta")}, ValueError, "y: wanted the device of x, cpu, got meta"),
        (
            {"x": X, "label": torch.ones(2).long().to("meta")},
            ValueError,
            "label: wanted the device of x, cpu, got meta",
        ),
        ({"x": X, "label": torch.ones(3).long()}, ValueError, "label: wanted shape (b,), b = 2 as in x, got (3,)"),
        ({"label": torch.ones(2)}, TypeError, "label: wanted whole numbers, got torch.float32"),
        ({"square": X}, ValueError, "square: wanted shape (n, n), n = 2 as in square, got (2, 3)"),
        ({"square": X[0]}, ValueError, "square: wanted shape (n, n), got (3,)"),
        ({"finite": X / 0}, ValueError, "finite: wanted finite numbers, got NaN or infinity"),
        ({"images": X}, TypeError, "images: wanted uint8, got torch.float32; is it normalised already?"),
        ({"variance": "1"}, TypeError, "variance: wanted a number or a tensor of numbers, got str"),
        ({"x": X, "variance": X.to("meta")}, ValueError, "variance: wanted the device of x, cpu, got meta"),
        ({"n": 0}, ValueError, "n: wanted 1 or more, got 0"),
        ({"n": 2.0}, TypeError, "n: wanted a whole number, got 2.0"),
        ({"depth": 1}, ValueError, "depth: wanted 2 or more, got 1"),
        ({"high": 0.0}, ValueError, "high: wanted a number in (0.0, inf], got 0.0"),
        ({"low": 3.0, "high": 2.0}, ValueError, "high: wanted a number in (3.0, inf], got 2.0"),
        ({"error": math.nan}, ValueError, "error: wanted a number in (0, 1], got nan"),
        ({"kind": "x0"}, ValueError, "kind: wanted one of eps, v, got 'x0'"),
        ({"widths": (1,)}, ValueError, "widths: wanted 2 whole numbers, got (1,)"),
        ({"errors": 3}, TypeError, "errors: wanted errors by their times, got int"),
        ({"schedule": linear}, TypeError, "schedule: wanted a schedule, such as linear(), got function"),
        ({"schedule": VPCosine}, TypeError, "schedule: wanted a schedule, such as linear(), got the class VPCosine"),
        ({"counted": VPCosine()}, TypeError, "schedule: wanted a discrete one, with steps t - 1 and t, got VPCosine"),
        ({"timesteps": [0, 10]}, ValueError, "timesteps: wanted a strictly falling grid, got 0 followed by 10"),
        ({"timesteps": [11, 0]}, ValueError, "timesteps: wanted 0 (clean) … 10 (all noise), got 11 … 11"),
        ({"denoise": 3}, TypeError, "denoise: wanted a function, got 3"),
        ({"g": 3}, TypeError, "g: wanted a function, got 3"),
        ({"generator": 0}, TypeError, "generator: wanted torch.Generator().manual_seed(…), got 0"),
        ({"network": 3}, TypeError, "network: wanted a network, got int"),
    ],
)
def test_what_an_annotation_excludes_is_refused_in_our_words(given, error, sentence):
    with pytest.raises(error) as raised:
        f(**given)
    assert str(raised.value).startswith(sentence)


def test_what_is_left_out_or_free_is_not_looked_at():
    assert f() == f(None or X, None, None, X[:, :2]) == f(free=object(), error=None, y=None) == "reached"
    assert f(variance=X[:1], high=math.inf, timesteps=torch.tensor([10, 3, 0]), errors={1: 0.1}) == "reached"
    assert f(torch.zeros(2, 3, device="meta"), variance=torch.tensor(1.0)) == "reached"  # one number of the CPU
    with pytest.raises(TypeError, match="unexpected keyword"):
        f(other=1)
    with pytest.raises(TypeError, match="positional argument"):
        checked(lambda a, b: None)(1)


def test_a_default_that_is_wrong_beside_another_argument_is_refused():
    for call, sentence in (
        (lambda: VPLinear(30.0), r"beta_max: wanted a number in \[30.0, inf\), got 20.0"),
        (lambda: SelfAttention(6), "heads: wanted a divisor of 6 channels, got 4"),
        (lambda: AttentionDenoiser(width=6, heads=2), "width: wanted a multiple of 4, got 6"),
        (
            lambda: precision_recall(normal(3, 2), normal(5, 2)),
            "k: wanted 1 … 2, fewer than the smaller set has, got 3",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{sentence}$"):
            call()


def test_a_variance_has_each_axis_of_the_images_or_1():
    """A bare (b,) would meet the last axis: refused, although 3 images of 3 pixels would broadcast."""
    x = torch.zeros(3, 3)
    for one in (1.0, torch.tensor(1.0), torch.ones(3, 1), torch.ones(1, 3), torch.ones(1, 1, dtype=torch.float64)):
        assert variational.gaussian_kl(x, one, x, one).tolist() == [0.0, 0.0, 0.0]
    for bad in (torch.ones(3), torch.ones(2, 1), torch.ones(3, 1, 1)):
        got = ", ".join(map(str, bad.shape)) + "," * (bad.ndim == 1)
        with pytest.raises(ValueError, match=rf"^var_p: .* each axis 1 or that of mean_q, \(3, 3\), got \({got}\)$"):
            variational.gaussian_kl(x, 1.0, x, bad)


def test_what_a_signature_reads_the_function_gets():
    @checked
    def g(n: Count, sizes: Annotated[int | Sequence[int], Sizes(2, square=True)], x: Annotated[Tensor, DOUBLE]):
        return n, sizes, x

    n, sizes, x = g(np.int64(3), sizes=[np.int32(2), 3], x=[0.5, 1])
    assert (type(n), sizes, {type(size) for size in sizes}) == (int, (2, 3), {int})
    assert (x.dtype, x.tolist(), g(1, 4, 1.0)[1]) == (torch.float64, [0.5, 1.0], (4, 4))
    for bad, name in (((1, True, 1.0), "sizes"), ((1, (2, 3, 4), 1.0), "sizes"), ((1, 2, "?"), "x")):
        with pytest.raises((TypeError, ValueError), match=f"^{name}: wanted"):
            g(*bad)


def test_a_checked_function_shows_its_own_signature_and_is_checked_before_it_begins():
    assert list(inspect.signature(f).parameters)[:3] == ["x", "y", "label"]
    begun = []

    @checked
    def generator(n: Count):
        begun.append(n)
        yield n

    with pytest.raises(ValueError, match="n: wanted 1 or more"):
        generator(0)
    assert begun == []


@pytest.mark.skipif(torch.__version__.startswith("2.4."), reason="PyTorch 2.4 cannot compile through jaxtyping's hook")
def test_a_compiled_function_is_translated_whole():
    double = torch.compile(checked(_double), backend="eager", fullgraph=True)
    assert torch.equal(double(X + 1), X + 2 * 1)


def _double(x: Float[Tensor, "b *shape"]):
    return 2 * x


# --- parts of a learner's own ----------------------------------------------------------------------------------------


class Quarter:
    """VPCosine with the two methods alone."""

    def coeffs(self, t):
        t = torch.as_tensor(t, dtype=torch.float64)
        return (math.pi / 2 * (1 - t)).sin(), (math.pi / 2 * t).sin()

    def log_snr(self, t):
        alpha, sigma = self.coeffs(t)
        return 2 * (alpha.log() - sigma.log())


class TenSteps:
    """linear(10) with the two methods, and a number of steps."""

    T = 10

    def coeffs(self, t):
        alpha_bar = linear(10).alpha_bar[torch.as_tensor(t)]
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def log_snr(self, t):
        alpha_bar = linear(10).alpha_bar[torch.as_tensor(t)]
        return alpha_bar.log() - torch.log1p(-alpha_bar)


OWN = pytest.mark.parametrize(("own", "ours"), [(Quarter(), VPCosine()), (TenSteps(), linear(10))], ids=["u", "t"])


@OWN
@each_sampler
def test_every_sampler_takes_a_schedule_that_has_the_two_methods(sample, own, ours):
    mixture = GaussianMixture(normal(4, 3), 0.3)
    grid, x_T = samplers.karras_grid(own, 5), normal(6, 3, seed=1)
    assert grid == samplers.karras_grid(ours, 5)
    got = sample(mixture.denoiser(own), x_T, own, grid, generator=stream())
    assert torch.equal(got, sample(mixture.denoiser(ours), x_T, ours, grid, generator=stream()))


@OWN
def test_grids_bounds_steps_and_networks_take_it_too(own, ours):
    for grid in (samplers.uniform_grid, samplers.linspace_grid, samplers.leading_grid, samplers.log_snr_grid):
        assert grid(own, 4) == grid(ours, 4)
    t, s = (7, 2) if ours.T else (0.7, 0.2)
    x, x_0, grid = normal(2, 1, 4, 4), normal(2, 1, 4, 4, seed=1).clamp(-1, 1), samplers.uniform_grid(ours, 3)
    network, jump = UNet(1, (16,), blocks=1), VariationalJump((1, 4, 4), 1, 8)
    for answer in (
        lambda schedule: q_sample(x_0, t, schedule, x),
        lambda schedule: q_posterior(x, x_0, t, schedule, s)[0],
        lambda schedule: Denoiser(network, schedule)(x, t),
        lambda schedule: IdealDenoiser(x_0, schedule)(x, t),
        lambda schedule: variational.bound(_half, x_0, schedule, grid, generator=stream()).total,
        lambda schedule: sample_jumps(jump, _half, x, schedule, grid, generator=stream()),
    ):
        assert torch.equal(answer(own), answer(ours))
    for bad in (-0.1, 11, True):
        with pytest.raises((TypeError, ValueError), match=r"^t: wanted"):
            q_posterior(x, x_0, bad, own, s)


def _half(x_t, t, **cond):
    return x_t / 2


# --- NaN -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["euler", "heun"])
@pytest.mark.parametrize("grid", [[1000, 500, 0], [1000, 0]])  # after the last step no denoiser would meet the NaN
def test_a_step_that_half_precision_cannot_hold_is_named(name, grid):
    """x / alpha at the noisy end of a cosine schedule is more than float16's 65504."""
    x_T, schedule = 5 * torch.ones(2, 3, dtype=torch.float16), cosine()
    assert x_T.max() / schedule.coeffs(1000)[0] > 65504
    with pytest.raises(ValueError, match=r"x_T: .* step from t = 1000 to (500|0), step 0.* torch.float16 can hold"):
        SAMPLERS[name](_half, x_T, schedule, grid)


@each_sampler
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("nothing", [math.nan, math.inf, -math.inf])
def test_no_sampler_hands_out_what_the_denoiser_could_not_say(sample, dtype, nothing):
    def denoise(x_t, t, **cond):
        return torch.where(torch.arange(3) == 1, nothing, x_t / 2) if t < 9 else x_t / 2

    with pytest.raises(ValueError, match=r"^denoise: returned NaN or infinity at step [01], t = [468]$"):
        sample(denoise, normal(2, 3).to(dtype), S, [9, 6, 0])


def test_a_variance_that_is_none_is_told_from_a_denoiser_that_fails():
    with pytest.raises(ValueError, match="x_T: NaN or infinity came of the step from t = 9 to 4, step 0, and not of"):
        samplers.sample_ddpm(_half, X, S, [9, 4, 0], variance=lambda *_: torch.tensor(-1.0))


# --- a GPU -----------------------------------------------------------------------------------------------------------


@each_sampler
@pytest.mark.parametrize("schedule", [S, VPLinear()], ids=["discrete", "continuous"])
def test_a_step_makes_python_wait_for_the_gpu_once(sample, schedule):
    """The look whether all is finite. Noise that a generator of the CPU draws is sent, and nobody waits for it."""
    network = UNet(1, (16, 16), blocks=1, num_classes=3)
    denoiser, x_T, label = Denoiser(network, schedule), normal(2, 1, 8, 8), torch.tensor([0, -1])
    with simgpu.installed((7, 5)) as waits:
        there = denoiser.to("cuda")
        arguments = {"generator": stream(), "label": label.to("cuda")}
        x_T = x_T.to("cuda")
        counted = []
        for n in (2, 6):
            waits.clear()
            sample(there, x_T, schedule, samplers.uniform_grid(schedule, n), **arguments)
            counted.append(len(waits))
    assert counted[1] - counted[0] == 4, waits


def test_what_lies_elsewhere_is_named():
    errors = torch.full((10,), 0.1, dtype=torch.float64)
    network, x, label = UNet(1, (16,), blocks=1, num_classes=3), normal(2, 1, 4, 4), torch.tensor([0, 1])
    with simgpu.installed((7, 5)):
        there = errors.to("cuda")
        for pair in ((errors, there), (there, errors)):
            with pytest.raises(
                ValueError, match=r"^decoder: wanted the device of errors, (cpu|cuda:0), got (cpu|cuda:0)$"
            ):
                step_selection.cost_matrix(*pair, S, 3)
        costs = step_selection.cost_matrix(there, there, S, 3)  # the schedule's own table is on the CPU
        assert costs.device.type == "cuda"
        assert len(step_selection.best_paths(costs, 3)) == 3
        ideal = IdealDenoiser(x, S, label)
        denoiser = Denoiser(network, S).to("cuda")
        for denoise in (denoiser, ideal, classifier_free(denoiser, 2.0)):
            with pytest.raises(ValueError, match=r"^label: wanted the device of (x_t|the images), cuda:0, got cpu$"):
                denoise(x.to("cuda"), 3, label=label)


def test_what_is_out_of_range_on_a_gpu_is_nan_there_and_no_crash():
    network, x = UNet(1, (16,), blocks=1, num_classes=3), normal(2, 1, 4, 4)
    with simgpu.installed((7, 5)):
        denoiser, x = Denoiser(network, S).to("cuda"), x.to("cuda")
        for schedule, t in (
            (S, torch.tensor([3, 11])),
            (S, torch.tensor([3, -1])),
            (VPLinear(), torch.tensor([0.3, 1.1])),
        ):
            finite = q_sample(x, t.to("cuda"), schedule, x).flatten(1).isfinite().all(1)
            assert finite.tolist() == [True, False]
        finite = denoiser(x, 3, label=torch.tensor([2, 3]).to("cuda")).flatten(1).isfinite().all(1)
        assert finite.tolist() == [True, False]
        with pytest.raises(ValueError, match="denoise: returned NaN or infinity at step 0, t = 9; on a GPU a label"):
            samplers.sample_ddim(denoiser, x, S, [9, 0], label=torch.tensor([2, 3]).to("cuda"))


def test_one_number_of_the_cpu_serves_a_step_with_a_latent_and_times_may_lie_anywhere():
    with simgpu.installed((7, 5)):
        x, losses = normal(2, 3).to("cuda"), torch.ones(2).to("cuda")
        jump = VariationalJump((3,), 1, 8).to("cuda")
        assert jump.reconstruct(x, x, x / 2, 5, 2, S, stream())[0].device.type == "cuda"
        LossAwareSampler(10).update(torch.tensor([3, 4]), losses)


def test_optimal_variances_are_looked_up_where_the_images_are():
    with simgpu.installed((7, 5)):
        x = X.to("cuda")
        variance = optimal_variance({5: 0.1, 3: 0.2})
        assert variance(x, x, torch.tensor([5, 3]).to("cuda"), 2, S).device.type == "cuda"
