"""The course on a GPU, on a machine that has none: few waits, and words where devices mix."""

import copy
import functools
import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import simgpu
import torch
from simgpu import Wait
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from course_utils import data, inpainting, metrics, pretrained, recipes, runtime, samplers
from course_utils.classifier import look_at
from course_utils.exercises import check
from course_utils.samplers import step_selection
from course_utils.schedules import linear
from course_utils.training import Training, train

T4, A100 = (7, 5), (8, 0)


@pytest.fixture
def gpu(request: pytest.FixtureRequest) -> Iterator[list[Wait]]:
    with simgpu.installed(getattr(request, "param", T4)) as waits:
        yield waits


# ---------------------------------------------------------------- the simulation itself


@pytest.mark.parametrize(("gpu", "rounds"), [(T4, torch.float16), (A100, torch.bfloat16)], indirect=["gpu"])
def test_a_product_of_halves_is_exact_but_for_its_roundings(gpu: list[Wait], rounds: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    x, w = torch.randn(3, 40, generator=g).to("cuda"), torch.randn(5, 40, generator=g).to("cuda")
    w.requires_grad_()
    with torch.autocast("cuda", dtype=rounds):
        y = F.linear(x, w)
    y.sum().backward()
    assert y.dtype == rounds
    assert w.grad is not None
    given, weight = x.cpu().double(), w.detach().cpu().double()
    rounded, ulp = given.to(rounds).double(), torch.finfo(rounds).eps
    seen = y.detach().cpu().double()
    assert torch.allclose(seen, rounded @ weight.to(rounds).double().T, rtol=ulp, atol=1e-5)
    assert (seen - given @ weight.T).abs().max() > 1e-4  # what went in was rounded, too
    assert torch.allclose(w.grad[0].cpu().double(), rounded.sum(0), rtol=ulp, atol=ulp)


def test_it_refuses_what_cuda_refuses(gpu: list[Wait]) -> None:
    x, y, one = torch.ones(3, device="cuda"), torch.ones(3), torch.tensor(1.0)
    calls = {
        "sum": lambda: x + y,
        "where": lambda: torch.where(y > 0, x, x),
        "into the CPU": lambda: y.add_(one.to("cuda")),
        "stack": lambda: torch.stack([x[0], one]),
        "product": lambda: x @ y,
        "embedding": lambda: F.embedding(torch.tensor([0]), x[:, None]),
        "loss": lambda: F.cross_entropy(torch.ones(2, 3, device="cuda"), torch.tensor([0, 1])),
        "index": lambda: y[torch.tensor([1], device="cuda")],
    }
    for name, call in calls.items():
        with pytest.raises(RuntimeError, match="device"):
            pytest.fail(f"{name}: {call()}")
    for call in (x.numpy, lambda: np.asarray(x)):
        with pytest.raises(TypeError, match="numpy"):
            call()


def test_it_lets_right_code_pass(gpu: list[Wait]) -> None:
    x, one, i = torch.arange(4.0, device="cuda"), torch.tensor(1.0), torch.tensor([2, 1])
    for y in (x + one, one * x, x.masked_fill(x > 2, one), x[i], x[i.to("cuda")], x.new_zeros(2), torch.zeros_like(x)):
        assert y.device.type == "cuda"
        assert y.is_cuda
    assert x.cpu().device.type == torch.zeros(4).copy_(x).device.type == "cpu"
    assert x[i].tolist() == [2, 1]
    assert f"{x[3]:.1f}" == "3.0"
    w = torch.nn.Linear(4, 2).to("cuda")
    w(x).sum().backward()
    assert w.weight.grad.device.type == w.weight.device.type == "cuda"
    assert torch.equal(w.weight.grad, x.expand(2, 4))


def test_a_network_there_can_be_copied(gpu: list[Wait]) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).to("cuda")
    network(torch.ones(1, 1, 5, 5, device="cuda")).square().mean().backward()
    twin, table = copy.deepcopy([network, torch.ones(3)])  # as a denoiser has: its schedule stays on the CPU
    assert table.device.type == "cpu"
    assert twin.state_dict().keys() == network.state_dict().keys()
    for old, new in zip(network.state_dict().values(), twin.state_dict().values(), strict=True):
        assert new.device.type == "cuda"
        assert torch.equal(old, new)
        assert old.data_ptr() != new.data_ptr()
    assert torch.equal(twin[0].weight.grad, network[0].weight.grad)
    assert next(twin.cpu().parameters()).device.type == "cpu"


def test_weights_are_loaded_there_while_somebody_holds_them(gpu: list[Wait]) -> None:
    network = torch.nn.Linear(2, 3).to("cuda")
    loss = network(torch.ones(1, 2, device="cuda")).sum()  # whose graph holds the weights
    network.load_state_dict({"weight": torch.ones(3, 2), "bias": torch.zeros(3).to("cuda")})
    assert network.weight.device.type == "cuda"
    assert network(torch.ones(1, 2, device="cuda")).sum().item() == 6
    del loss


def test_what_is_computed_again_on_the_way_back_is_there_too(gpu: list[Wait]) -> None:
    asked = []

    def square(x: torch.Tensor) -> torch.Tensor:
        asked.append(x.is_cuda)
        return x.square().sin()

    x = torch.arange(3.0).to("cuda").requires_grad_()
    checkpoint(square, x, use_reentrant=False).sum().backward()
    assert asked == [True, True]
    torch.testing.assert_close(x.grad.cpu(), 2 * torch.arange(3.0) * torch.arange(3.0).square().cos())


def test_it_counts_what_makes_python_wait(gpu: list[Wait]) -> None:
    x = torch.ones(3, device="cuda")
    for call, kind in [
        (lambda: x[0].item(), "read"),
        (lambda: bool(x.sum() > 1), "read"),
        (lambda: x[x > 0], "read"),
        (x.cpu, "to cpu"),
        (lambda: torch.ones(3).to("cuda"), "to gpu"),
        (lambda: torch.tensor([1.0], device="cuda"), "to gpu"),
        (lambda: x[torch.tensor([0])], "to gpu"),
    ]:
        gpu.clear()
        call()
        assert [what for what, _ in gpu] == [kind]
    gpu.clear()
    (x * 2 + torch.zeros(3, device="cuda")).sum()
    assert gpu == []


# ---------------------------------------------------------------- waits


@pytest.mark.parametrize("gpu", [T4, A100], ids=["T4", "A100"], indirect=True)
def test_a_training_step_waits_for_the_batch_the_loss_and_the_gradient(gpu: list[Wait]) -> None:
    images, labels = data.load_images("mnist", n=64)
    run = Training(recipes.make_model(recipes.RECIPES["mnist-smoke"]), device=runtime.pick_device())
    steps = train(run, images, labels, steps=9, batch_size=8, times="cosine")
    next(steps)
    gpu.clear()
    records = [next(steps) for _ in range(3)]
    assert all(math.isfinite(record.loss) for record in records)
    allowed = 3 if run.precision == torch.bfloat16 else 5  # float16 asks twice more: did it overflow, and the new scale
    assert len(gpu) / 3 <= allowed, Counter(gpu).most_common()


STEPPERS = {
    "ddpm": samplers.sample_ddpm,
    "ddim": samplers.sample_ddim,
    "ddim, eta 1": functools.partial(samplers.sample_ddim, eta=1.0),
    "euler": samplers.sample_euler,
    "heun": samplers.sample_heun,
    "2s": samplers.sample_dpmpp_2s,
    "2m": samplers.sample_dpmpp_2m,
    "unipc": samplers.sample_unipc,
}


@pytest.mark.parametrize("sample", STEPPERS.values(), ids=STEPPERS)
def test_a_sampler_waits_at_most_once_a_step(gpu: list[Wait], sample) -> None:
    network = pretrained.load_denoiser("mnist-cnn", runtime.pick_device())
    x_T, label = torch.randn(2, 1, 28, 28).to("cuda"), torch.tensor([1, 2], device="cuda")
    waits = []
    for steps in (2, 6):
        gpu.clear()
        grid = samplers.uniform_grid(network.schedule, steps)
        x = sample(network, x_T, network.schedule, grid, generator=torch.Generator().manual_seed(0), label=label)
        assert x.device.type == "cuda"
        assert x.isfinite().all()
        waits.append(Counter(gpu))
    assert waits[1].total() - waits[0].total() <= 4, (waits[1] - waits[0]).most_common()


def test_times_are_learnt_for_noises_there(gpu: list[Wait]) -> None:
    """The times themselves are few numbers, and stay on the CPU (lesson 13)."""
    moving = step_selection.in_continuous_time(pretrained.load_denoiser("mnist-cnn", runtime.pick_device()))
    x_T, label = torch.randn(2, 1, 28, 28).to("cuda"), torch.tensor([1, 2], device="cuda")
    target = torch.zeros(2, 1, 28, 28, device="cuda")
    grid = samplers.uniform_grid(moving.schedule, 3)
    records = [*step_selection.learn_times(moving, x_T, target, moving.schedule, grid, steps=2, label=label)]
    assert all(math.isfinite(record.loss) for record in records)
    assert records[-1].timesteps != grid


# ---------------------------------------------------------------- two devices: words, or no matter


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_hole_is_filled_wherever_picture_and_mask_lie(gpu: list[Wait], device: str) -> None:
    schedule, mask, known = linear(), inpainting.box_mask(28, 28, 5, 20, 5, 20), torch.randn(1, 28, 28)
    there, denoise = torch.randn(2, 1, 28, 28).to("cuda"), lambda x_t, t: 0.9 * x_t
    filled = inpainting.sample_repaint(
        denoise, there, schedule, [900, 400, 0], known=known.to(device), mask=mask.to(device),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    guess = inpainting.with_known(denoise, known.to(device), mask.to(device))(there, 500)
    for x in (filled, guess):
        assert x.device.type == "cuda"
        assert torch.equal(x.cpu()[..., mask], known.expand(2, 1, 28, 28)[..., mask])


ROWS, MORE = torch.randn(60, 6), torch.randn(80, 6)
BYTES = torch.randint(0, 256, (12, 1, 28, 28), dtype=torch.uint8)
MIXED = {
    "fid": lambda a, b: metrics.fid(ROWS.to(a), MORE.to(b)),
    "kid": lambda a, b: metrics.kid(ROWS.to(a), MORE.to(b), generator=torch.Generator()),
    "fid_interval": lambda a, b: metrics.fid_interval(ROWS.to(a), MORE.to(b), generator=torch.Generator()),
    "precision_recall": lambda a, b: metrics.precision_recall(ROWS.to(a), MORE.to(b)),
    "nearest": lambda a, b: metrics.nearest(ROWS.to(a), MORE.to(b)),
    "copied": lambda a, b: metrics.copied(ROWS.to(a), MORE.to(b), ROWS.to(b)),
    "shifted": lambda a, b: data.shifted(BYTES.float().to(a), torch.ones(12, 2, dtype=torch.long).to(b)),
    "a label": lambda a, b: pretrained.load_denoiser("mnist-cnn", a)(
        torch.randn(2, 1, 28, 28).to(a), 5, label=torch.tensor([1, 2]).to(b)
    ),
    "an image": lambda a, b: pretrained.load_denoiser("mnist-cnn", a)(torch.randn(2, 1, 28, 28).to(b), 5),
    "the classifier": lambda a, b: look_at(pretrained.load_classifier("mnist", a), BYTES.to(b)),
}


@pytest.mark.parametrize("call", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("devices", [("cuda", "cpu"), ("cpu", "cuda")], ids="-".join)
def test_two_devices_are_told_in_words_or_do_not_matter(gpu: list[Wait], call, devices: tuple[str, str]) -> None:
    try:
        call(*devices)
        said = "device"
    except (TypeError, ValueError) as error:
        said = str(error)
    assert "device" in said or "cuda" in said
    assert "simulated" not in said  # but in our words


def test_an_answer_on_the_gpu_counts_as_any_other(gpu: list[Wait]) -> None:
    def q_step(x_prev, beta, eps):
        x, e = x_prev.to("cuda"), eps.to("cuda")
        return (1 - beta) ** 0.5 * x + beta**0.5 * e

    verdict = check("01.q_step", q_step, seed=0)
    assert verdict.passed, verdict
