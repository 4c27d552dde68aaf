"""Networks and their wrapper: unit variance in and out at every t, honest about sizes and labels, and able to learn."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.denoisers import DAE, AttentionDenoiser, Denoiser, DiT, PlainCNN, Swin, UNet, compare, describe
from course_utils.denoisers.attention import AttentionBlock, SelfAttention, attend
from course_utils.denoisers.embeddings import FiLM, NoiseEmbedding, sinusoidal_2d, sinusoidal_embedding
from course_utils.denoisers.unet import ResBlock
from course_utils.forward import q_sample
from course_utils.losses import denoising_loss, loss_weight
from course_utils.parameterizations import v_from_x0_eps
from course_utils.schedules import (
    VE,
    FlowMatching,
    VPCosine,
    VPLinear,
    cosine,
    linear,
    rescale_zero_terminal_snr,
)
from course_utils.toy import Gaussian, GaussianMixture

SCHEDULES = {
    "linear": linear(),
    "cosine": cosine(),
    "vp_linear": VPLinear(),
    "ve": VE(),
    "flow": FlowMatching(),
    "zero_terminal": rescale_zero_terminal_snr(linear()),
}
ENDS_AT_NOISE = ("flow", "zero_terminal")  # alpha_T = 0: eps-prediction has nothing to divide by there
each_schedule = pytest.mark.parametrize("name", SCHEDULES)
each_prediction = pytest.mark.parametrize("predict", ["eps", "x0", "v", "u"])
MEAN, STD = -0.4, 0.6


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def times(name, last=True):
    """Times from the first step to the last one (or short of it), as the schedule counts them."""
    T = SCHEDULES[name].T
    near = [0.001, 0.1, 0.5, 0.9, 0.999] + [1.0] * last
    return torch.tensor([max(1, round(u * T)) for u in near] if T else near)


def stirred(network, seed=0, scale=0.1):
    """The network with noise on every weight: what starts at zero then shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight += scale * torch.randn(weight.shape, generator=generator).to(weight)
    return network.eval()


# --- attention -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 49])
def test_attend_and_its_gradients_are_pytorchs_attention(n):
    q, k, v = (draw(2, 3, n, 8, seed=i).requires_grad_() for i in range(3))
    weights = draw(2, 3, n, 8, seed=3)
    ours, theirs = attend(q, k, v), F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    of_ours = torch.autograd.grad((ours * weights).sum(), (q, k, v))
    of_theirs = torch.autograd.grad((theirs * weights).sum(), (q, k, v))
    torch.testing.assert_close(of_ours, of_theirs, atol=1e-6, rtol=0)


def test_self_attention_is_the_formula_head_by_head_fused_or_not():
    torch.manual_seed(0)
    plain, fused, chosen = (SelfAttention(8, heads=2, fused=how).double() for how in (False, True, None))
    stirred(plain, scale=1.0)
    fused.load_state_dict(plain.state_dict())
    chosen.load_state_dict(plain.state_dict())
    x = draw(3, 8, 4, 5)
    tokens = plain.norm(x).reshape(3, 8, 20).transpose(1, 2)
    q, k, v = plain.qkv(tokens).split(8, dim=-1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        weights = torch.softmax(torch.einsum("bid,bjd->bij", q[..., part], k[..., part]) / 2.0, dim=-1)
        heads.append(torch.einsum("bij,bjd->bid", weights, v[..., part]))
    expected = x + plain.out(torch.cat(heads, dim=-1)).transpose(1, 2).reshape(3, 8, 4, 5)
    for module in (plain, fused, chosen):
        torch.testing.assert_close(module(x), expected, atol=1e-10, rtol=0)
        memory = x.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(module(memory), expected, atol=1e-10, rtol=0)


def test_residual_blocks_start_as_the_identity():
    x, vector = draw(2, 16, 5, 6, dtype=torch.float32), draw(2, 8, dtype=torch.float32)
    torch.manual_seed(0)
    assert torch.equal(SelfAttention(16)(x), x)
    assert torch.equal(FiLM(8, 16)(x, vector), x)
    assert torch.equal(AttentionBlock(16, 4, 8)(x, vector), x)
    assert torch.equal(ResBlock(16, 16, 8, attends=True)(x, vector), x)
    for module, arguments in [
        (SelfAttention(16), (x,)),
        (FiLM(8, 16), (x, vector)),
        (AttentionBlock(16, 4, 8), (x, vector)),
        (ResBlock(16, 16, 8, attends=True), (x, vector)),
    ]:
        assert not torch.allclose(stirred(module)(*arguments), x, atol=1e-2)  # and do not stay so


def test_film_scales_and_shifts_each_channel():
    film = FiLM(3, 2)
    with torch.no_grad():
        film.layer.weight.zero_()
        film.layer.bias.copy_(torch.tensor([1.0, -1.0, 5.0, 7.0]))  # scales, then shifts
    out = film(torch.full((1, 2, 2, 2), 3.0), torch.zeros(1, 3))
    assert torch.equal(out, torch.tensor([3 * 2.0 + 5.0, 3 * 0.0 + 7.0])[None, :, None, None].expand(1, 2, 2, 2))


# --- embeddings ------------------------------------------------------------------------------------------------------


def test_sinusoids_are_the_papers():
    positions = torch.tensor([0.0, 1.0, -3.5, 700.0])
    ours = sinusoidal_embedding(positions, 8)
    for row, p in zip(ours, positions.tolist(), strict=True):
        angles = [p / 10_000 ** (i / 3) for i in range(4)]
        expected = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
        torch.testing.assert_close(row, torch.tensor(expected), atol=1e-4, rtol=0)  # float32 angles up to 700


def test_every_position_of_an_image_is_told_apart():
    positions = sinusoidal_2d(20, 23, 16).flatten(1).T.double()
    assert positions.shape == (460, 16)
    apart = torch.cdist(positions, positions) + 10 * torch.eye(460)
    assert apart.min() > 0.1
    # Rows and columns each have half of the channels: moving along one leaves the other half alone.
    grid = sinusoidal_2d(20, 23, 16)
    assert torch.equal(grid[:8, :, 0], grid[:8, :, 5])
    assert torch.equal(grid[8:, 0, :], grid[8:, 5, :])


def test_noise_embedding_tells_neighbouring_steps_apart():
    torch.manual_seed(0)
    embed, sinusoids = NoiseEmbedding(128), []
    embed.layers.register_forward_pre_hook(lambda _, inputs: sinusoids.append(inputs[0]))
    learned = embed(linear().log_snr(torch.arange(2, 1001)))
    # A step of 1, as DDPM's t makes, moves the fastest sinusoid by 2 sin(1/2) = 0.96 of its radius. Steps of the
    # log-SNR differ in size; the shortest must still be half as long.
    assert sinusoids[0].diff(dim=0).norm(dim=1).min() > 0.5
    assert learned.diff(dim=0).norm(dim=1).min() > 0


def test_noise_embedding_clamps_what_has_no_bounds():
    embed = NoiseEmbedding(16)
    ends = torch.tensor([-math.inf, -20.0, -1e9, 20.0, math.inf])
    vectors = embed(ends)
    assert vectors.isfinite().all()
    assert torch.equal(vectors[0], vectors[1])
    assert torch.equal(vectors[1], vectors[2])
    assert torch.equal(vectors[3], vectors[4])
    assert not torch.allclose(vectors[1], vectors[3])
    assert not torch.allclose(*embed(torch.tensor([19.0, 19.9])))


def test_label_minus_one_is_no_class():
    embed = NoiseEmbedding(16, num_classes=3)
    log_snr = torch.zeros(4)
    labelled = embed(log_snr, torch.tensor([-1, 0, 1, 2]))
    assert torch.equal(embed(log_snr)[0], labelled[0])
    assert torch.pdist(labelled).min() > 1e-3  # four different vectors
    # Only the rows asked for learn.
    embed(log_snr[:2], torch.tensor([-1, 2])).sum().backward()
    assert embed.classes.weight.grad.abs().sum(1).gt(0).tolist() == [True, False, False, True]


@pytest.mark.parametrize("label", [[3, 0], [0, -2]])
def test_wrong_labels_are_named(label):
    with pytest.raises(ValueError, match="label: wanted"):
        NoiseEmbedding(16, num_classes=3)(torch.zeros(2), torch.tensor(label))


def test_odd_widths_are_named():
    with pytest.raises(ValueError, match="dim: wanted a multiple of 2"):
        sinusoidal_embedding(torch.zeros(1), 5)
    with pytest.raises(ValueError, match="dim: wanted a multiple of 4"):
        sinusoidal_2d(4, 4, 6)
    with pytest.raises(ValueError, match="heads: wanted a divisor of 10"):
        SelfAttention(10, 4)
    with pytest.raises(ValueError, match="width: wanted a multiple of 4"):
        AttentionDenoiser(width=18, heads=2)


# --- networks --------------------------------------------------------------------------------------------------------

NETWORKS = {
    "cnn": lambda channels, size, **kwargs: PlainCNN(channels, 16, 3, **kwargs),
    "dae": lambda channels, size, **kwargs: DAE(channels, size, 8, 16, **kwargs),
    "dae_skips": lambda channels, size, **kwargs: DAE(channels, size, 8, 16, skips=True, **kwargs),
    "attention": lambda channels, size, **kwargs: AttentionDenoiser(channels, 16, 1, **kwargs),
    "unet": lambda channels, size, **kwargs: UNet(channels, (16, 32), 1, **kwargs),
    "dit": lambda channels, size, **kwargs: DiT(channels, 16, 1, **kwargs),
    "swin": lambda channels, size, **kwargs: Swin(channels, (16, 32), 2, 8, 3, **kwargs),
}
each_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS.keys())


@each_network
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(28, 28), (32, 32), (15, 17), (5, 3)])
def test_every_size_comes_back_and_every_pixel_depends_on_the_input(make, channels, size):
    torch.manual_seed(0)
    network = stirred(make(channels, size))
    x = draw(2, channels, *size, dtype=torch.float32)
    out = network(x, torch.zeros(2))
    assert out.shape == x.shape
    moved = network(x + 0.5 * draw(2, channels, *size, seed=1, dtype=torch.float32), torch.zeros(2))
    assert (moved != out).all()
    # Images of a batch do not see each other.
    alone = network(x[1:], torch.zeros(1))
    torch.testing.assert_close(alone, out[1:], atol=1e-4, rtol=1e-4)


@each_network
def test_every_network_starts_at_zero_and_all_of_it_learns(make):
    torch.manual_seed(0)
    network = make(1, (8, 8), num_classes=2)
    x, log_snr, label = draw(2, 1, 8, 8, dtype=torch.float32), torch.tensor([-1.0, 2.0]), torch.tensor([-1, 1])
    assert torch.equal(network(x, log_snr, label), torch.zeros_like(x))
    stirred(network).train()
    network(x, log_snr, label).square().sum().backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


@each_network
def test_output_depends_on_the_noise_level_and_the_label(make):
    torch.manual_seed(0)
    network = stirred(make(1, (8, 8), num_classes=3))
    x = draw(1, 1, 8, 8, dtype=torch.float32).expand(4, -1, -1, -1)
    by_level = network(x, torch.tensor([-5.0, 0.0, 1.0, 5.0]))
    assert torch.pdist(by_level.flatten(1)).min() > 1e-2
    by_label = network(x, torch.zeros(4), torch.tensor([-1, 0, 1, 2]))
    assert torch.pdist(by_label.flatten(1)).min() > 1e-2
    torch.testing.assert_close(by_label[:1], network(x[:1], torch.zeros(1)))  # no label is label -1


@pytest.mark.parametrize(
    "make",
    [
        lambda **kwargs: PlainCNN(1, 16, 3, time=False, **kwargs),
        lambda **kwargs: DAE(1, 8, conditioned=False, **kwargs),
    ],
    ids=["cnn", "dae"],
)
def test_unconditioned_networks_are_told_nothing(make):
    network = stirred(make())
    x = draw(1, 1, 8, 8, dtype=torch.float32).expand(2, -1, -1, -1)
    first, second = network(x, torch.tensor([-5.0, 5.0]))
    assert torch.equal(first, second)
    assert network(x, torch.zeros(2)).abs().max() > 0
    with pytest.raises(ValueError, match="label: this network is not conditioned"):
        network(x, torch.zeros(2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="num_classes: wanted 0"):
        make(num_classes=3)


@each_network
def test_wrong_inputs_are_named(make):
    network = make(1, (8, 8))
    with pytest.raises(ValueError, match=r"x: wanted \(batch, 1, height, width\), got shape \(2, 3, 8, 8\)"):
        network(torch.zeros(2, 3, 8, 8), torch.zeros(2))
    with pytest.raises(ValueError, match=r"label: this network was made without classes"):
        network(torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.zeros(2, dtype=torch.long))


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match=r"x: wanted size \(28, 28\).*got \(32, 32\)"):
        DAE(1, 28, 8)(torch.zeros(1, 1, 32, 32), torch.zeros(1))
    with pytest.raises(ValueError, match="depth: wanted 2 or more, got 1"):
        PlainCNN(depth=1)


def test_a_cnn_does_the_same_everywhere():
    depth = 4
    network = stirred(PlainCNN(1, 8, depth).double())
    x = draw(1, 1, 24, 24)
    shifted = network(x.roll((2, 5), dims=(2, 3)), torch.zeros(1))
    expected = network(x, torch.zeros(1)).roll((2, 5), dims=(2, 3))
    inside = (..., slice(2 + depth, -depth), slice(5 + depth, -depth))  # beyond reach of the zeros around the image
    torch.testing.assert_close(shifted[inside], expected[inside], atol=1e-10, rtol=0)
    assert not torch.allclose(shifted, expected)  # the edges do differ


def test_a_dae_knows_only_its_code():
    """Through one number, all the images of a batch come out on one curve: differences have rank 1 to first order."""
    network = stirred(DAE(1, 8, 8, bottleneck=1).double())
    x = draw(1, 1, 8, 8)
    jacobian = torch.autograd.functional.jacobian(lambda y: network(y, torch.zeros(1)), x).reshape(64, 64)
    assert torch.linalg.matrix_rank(jacobian) == 1
    with_skips = stirred(DAE(1, 8, 8, bottleneck=1, skips=True).double())
    jacobian = torch.autograd.functional.jacobian(lambda y: with_skips(y, torch.zeros(1)), x).reshape(64, 64)
    assert torch.linalg.matrix_rank(jacobian) > 32


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_receptive_field_of_a_cnn_is_twice_its_depth_and_one(depth):
    assert describe(PlainCNN(1, 8, depth), (1, 28, 28)).receptive_field == 2 * depth + 1


def test_a_network_is_described_by_what_can_be_counted_by_hand():
    network = PlainCNN(3, 8, 2, time=False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = describe(network, (3, 10, 12))
    pixels = 10 * 12
    assert found.parameters == (3 * 9 * 8 + 8) + (8 * 9 * 3 + 3)
    assert found.flops == 2 * pixels * (3 * 9 * 8) + 2 * pixels * (8 * 9 * 3)
    # Kept: the input, what the first convolution made (for SiLU), and what SiLU made of it (for the second), float32.
    assert found.activation_bytes == 4 * pixels * (3 + 8 + 8)
    assert found.images_per_second is None
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("fused", [False, True])
def test_attention_flops_count_the_products_of_positions(fused):
    n, width = 16, 8
    network = AttentionDenoiser(1, width, blocks=1, heads=2, patch=2)
    network.blocks[0].attention.fused = fused
    per_position = 2 * (4 * width + width * 3 * width + width * width + 2 * 4 * width * width + 4 * width)
    of_vectors = 2 * (2 * (2 * width) ** 2 + 2 * width * 2 * width)  # the embedding's two layers, and FiLM's
    assert describe(network, (1, 8, 8)).flops == n * per_position + 2 * 2 * n * n * width + of_vectors


def test_networks_are_compared_row_by_row():
    rows = compare({"CNN": PlainCNN(1, 8, 2), "U-Net": UNet(1, (16, 32), 1)}, (1, 8, 8), batch=2).splitlines()
    assert [row.split()[0] for row in rows[1:]] == ["CNN", "U-Net"]
    assert rows[0].split()[-1] == "images/s"
    assert rows[1].split()[4] == "5"  # receptive field
    assert rows[2].split()[4] == "8"  # the whole image
    assert all(float(row.split()[-1].replace(",", "")) > 0 for row in rows[1:])
    with pytest.raises(ValueError, match="shape: wanted"):
        describe(PlainCNN(), (28, 28))


# --- the wrapper -----------------------------------------------------------------------------------------------------


class Says(nn.Module):
    """A network that answers what it was told to, and remembers what it was asked."""

    def __init__(self, answer=None):
        super().__init__()
        self.answer = answer

    def forward(self, x, log_snr, **cond):
        self.x, self.log_snr, self.cond = x, log_snr, cond
        return torch.zeros_like(x) if self.answer is None else self.answer


@each_schedule
@each_prediction
def test_inputs_and_targets_have_mean_zero_and_unit_variance_at_every_t(name, predict):
    schedule = SCHEDULES[name]
    n = 200_000
    x_0, eps = MEAN + STD * draw(n, 1), draw(n, 1, seed=1)
    for t in times(name, last=predict != "eps" or name not in ENDS_AT_NOISE).tolist():
        x_t = q_sample(x_0, t, schedule, eps)
        network = Says()
        denoise = Denoiser(network, schedule, predict, MEAN, STD)
        denoise(x_t, t)
        for what, value in (("input", network.x), ("target", denoise.target(x_0, eps, t))):
            # Of n normal draws the mean has standard error 1/sqrt(n), the variance sqrt(2/n); five of them.
            assert abs(value.mean()) < 5 / math.sqrt(n), (what, t)
            assert abs(value.var() - 1) < 5 * math.sqrt(2 / n), (what, t)


@each_schedule
@each_prediction
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_the_exact_target_gives_the_image_back(name, predict, dtype, tolerance):
    schedule = SCHEDULES[name]
    t = times(name, last=predict != "eps" or name not in ENDS_AT_NOISE)
    x_0 = MEAN + STD * draw(len(t), 1, 6, 6, dtype=dtype)
    eps = draw(len(t), 1, 6, 6, seed=1, dtype=dtype)
    x_t = q_sample(x_0, t, schedule, eps)
    denoise = Denoiser(Says(), schedule, predict, MEAN, STD)
    denoise.network.answer = denoise.target(x_0, eps, t)
    x0_hat = denoise(x_t, t)
    assert x0_hat.dtype == dtype
    # With eps-prediction the rounding of x_t and of sigma eps comes back divided by alpha, whoever computes it.
    alpha, sigma = schedule.coeffs(t)
    amplified = ((1 + sigma) / alpha).clamp(min=1) if predict == "eps" else torch.ones_like(alpha)
    error = (x0_hat - x_0).abs().flatten(1).amax(1)
    assert (error < tolerance * amplified).all(), error


@pytest.mark.parametrize("name", ["linear", "cosine", "vp_linear", "zero_terminal"])
def test_v_of_standard_data_on_a_variance_preserving_path_is_the_papers_v(name):
    schedule, t = SCHEDULES[name], times(name)
    x_0, eps = draw(len(t), 2, 3, 3), draw(len(t), 2, 3, 3, seed=1)
    denoise = Denoiser(Says(), schedule)
    torch.testing.assert_close(denoise.target(x_0, eps, t), v_from_x0_eps(x_0, eps, t, schedule), atol=1e-12, rtol=0)


@each_schedule
def test_silence_is_the_best_linear_guess(name):
    """With F = 0 and v-prediction, x0_hat is the exact denoiser of white Gaussian data with that mean and deviation."""
    schedule, t = SCHEDULES[name], times(name)
    x_t = 2 * draw(len(t), 1, 4, 4)
    data = Gaussian(torch.full((1, 4, 4), MEAN, dtype=torch.float64), STD**2)
    found = Denoiser(Says(), schedule, "v", MEAN, STD)(x_t, t)
    torch.testing.assert_close(found, data.denoise(x_t, t, schedule), atol=1e-10, rtol=0)


def test_v_scalings_are_those_of_edm():
    """Karras et al. 2022, table 1: alpha = 1, mean 0. Their F has the other sign."""
    schedule, t = VE(), torch.tensor([0.1, 0.5, 0.9])
    sigma = schedule.coeffs(t)[1].reshape(-1, 1)
    denoise = Denoiser(Says(), schedule, "v", 0.0, 0.5)
    c_in, c_skip, c_out = denoise.scales(torch.zeros(3, 1, dtype=torch.float64), t)
    torch.testing.assert_close(c_in, 1 / (sigma**2 + 0.25).sqrt(), atol=1e-12, rtol=0)
    torch.testing.assert_close(c_skip, 0.25 / (sigma**2 + 0.25), atol=1e-12, rtol=0)
    torch.testing.assert_close(c_out, sigma * 0.5 / (sigma**2 + 0.25).sqrt(), atol=1e-12, rtol=0)


def test_the_network_hears_the_log_snr_and_the_conditions():
    schedule, network = linear(), Says()
    denoise, x = Denoiser(network, schedule), draw(3, 1, 4, 4, dtype=torch.float32)
    t = torch.tensor([1, 500, 1000])
    denoise(x, t, label=torch.tensor([1, 2, -1]))
    torch.testing.assert_close(network.log_snr, schedule.log_snr(t).float())
    assert network.cond["label"].tolist() == [1, 2, -1]
    denoise(x, 500)
    torch.testing.assert_close(network.log_snr, schedule.log_snr(500).float().expand(3))


@each_prediction
def test_clean_images_stay_as_they_are_where_the_network_need_not_speak(predict):
    x = draw(2, 1, 8, 8, dtype=torch.float32)
    x0_hat = Denoiser(stirred(PlainCNN(1, 8, 2)), linear(), predict, MEAN, STD)(x, 0)
    assert x0_hat.isfinite().all()
    if predict != "x0":
        torch.testing.assert_close(x0_hat, x)


def test_wrong_wrappers_are_named():
    for schedule, t in ((SCHEDULES["zero_terminal"], 1000), (VPCosine(), 1.0)):
        with pytest.raises(ValueError, match="t: at this t alpha_t = 0"):
            Denoiser(Says(), schedule, "eps")(torch.zeros(1, 1, 4, 4), t)
    with pytest.raises(ValueError, match="predict: wanted one of eps, x0, v, u, got 'noise'"):
        Denoiser(Says(), linear(), "noise")
    for data_std in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="data_std: wanted a number in"):
            Denoiser(Says(), linear(), data_std=data_std)
    with pytest.raises(ValueError, match="t: wanted"):
        Denoiser(Says(), linear())(torch.zeros(2, 1, 4, 4), torch.tensor([1, 2, 3]))


# --- the loss --------------------------------------------------------------------------------------------------------


@each_schedule
@pytest.mark.parametrize("predict", ["eps", "v", "x0", "u"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_weighted_loss_is_the_plain_error_of_the_networks_own_target(name, predict, dtype, tolerance):
    """Weighting "v" with the unit-variance target, "eps" with the noise, "x0" with the image (over its variance),
    "u" with the flow (over its own)."""
    schedule, t = SCHEDULES[name], times(name, last=False)
    x_0, eps = MEAN + STD * draw(len(t), 1, 6, 6, dtype=dtype), draw(len(t), 1, 6, 6, seed=1, dtype=dtype)
    answer = draw(len(t), 1, 6, 6, seed=2, dtype=dtype)
    denoise = Denoiser(Says(answer), schedule, predict, MEAN, STD)
    found = denoising_loss(denoise, x_0, t, schedule, eps, weighting=predict, data_std=STD)
    plain = (answer - denoise.target(x_0, eps, t)).square().flatten(1).mean(1)
    expected = plain * {"x0": STD**2, "u": 1 + STD**2}.get(predict, 1)
    # Where sigma is tiny so is x_0 - x0_hat, and float32 rounds both images by 1e-7 of their size before the division.
    allowed = tolerance + (1e-6 / schedule.coeffs(t)[1] if dtype == torch.float32 else 0)
    assert ((found - expected).abs() <= allowed * expected).all(), (found / expected - 1, allowed)


def test_loss_weights_are_their_definitions():
    schedule = linear()
    t = torch.tensor([1, 200, 1000])
    snr = schedule.alpha_bar[t] / (1 - schedule.alpha_bar[t])
    assert snr[0] > 5 > snr[2]
    torch.testing.assert_close(loss_weight(t, schedule, "x0"), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(loss_weight(t, schedule, "eps"), snr)
    torch.testing.assert_close(loss_weight(t, schedule, "v"), snr + 1)
    torch.testing.assert_close(loss_weight(t, schedule, "v", data_std=0.5), snr + 4)
    torch.testing.assert_close(loss_weight(t, schedule, "min_snr"), torch.minimum(snr, torch.tensor(5.0)))
    torch.testing.assert_close(loss_weight(t, schedule, "min_snr", gamma=1.0), snr.clamp(max=1.0))
    flow, u = FlowMatching(), torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)  # where x_0 - x0_hat = t (u_hat - u)
    torch.testing.assert_close(loss_weight(u, flow, "u"), 1 / u**2)


def test_wrong_losses_are_named():
    with pytest.raises(ValueError, match="weighting: wanted one of x0, eps, v, min_snr, u, got 'snr'"):
        loss_weight(1, linear(), "snr")
    for weighting in ("eps", "v", "u"):
        with pytest.raises(ValueError, match=r"t: .* wanted t > 0"):
            loss_weight(torch.tensor([0, 5]), linear(), weighting)
    x_0 = torch.zeros(2, 1, 4, 4)
    with pytest.raises(ValueError, match="x0_hat: wanted the shape of x_0"):
        denoising_loss(lambda x_t, t: x_t[:, :, :2], x_0, 5, linear(), torch.zeros_like(x_0))


# --- learning: against the best possible denoiser --------------------------------------------------------------------


def templates(side=8):
    """Four smooth images."""
    angle = (torch.arange(side) + 0.5) / side * math.pi
    r, c = angle[:, None].expand(side, side), angle[None, :].expand(side, side)
    images = [r.cos(), c.cos(), 1.4 * (2 * r).cos() * c.cos(), (2 * r).cos()]
    return torch.stack(images)[:, None]


MIXTURE = GaussianMixture(templates(), 0.1)
MIXTURE_STD = math.sqrt(float(MIXTURE.means.square().mean()) + 0.1)  # each template has mean 0
PATH = linear()
LOG_SNRS = (4.0, 2.0, 0.0, -2.0, -4.0)
LEVELS = [int(PATH.t_at_log_snr(value)) for value in LOG_SNRS]


def taught(network, data, data_std, *, predict="v", times=None, steps=400, batch=64, lr=3e-3):
    """The network after some hundred steps on fresh draws of exact data, wrapped; times are uniform unless told."""
    generator = torch.Generator().manual_seed(1)
    denoise = Denoiser(network, PATH, predict, 0.0, data_std)
    optimizer = torch.optim.Adam(denoise.parameters(), lr=lr, betas=(0.9, 0.99))
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    times = torch.arange(1, PATH.T + 1) if times is None else torch.tensor(times)
    for _ in range(steps):
        x_0 = data.sample(batch, generator)
        t = times[torch.randint(len(times), (batch,), generator=generator)]
        eps = torch.randn(x_0.shape, generator=generator)
        weighting = predict if predict == "x0" else "v"
        loss = denoising_loss(denoise, x_0, t, PATH, eps, weighting=weighting, data_std=data_std).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(denoise.parameters(), 1.0)
        optimizer.step()
        rate.step()
    return denoise.eval()


@torch.no_grad()
def excess(denoise, data, levels, n=1024):
    """Mean squared error above the best possible one, on fresh data, per noise level.

    E|x_0 - f|² = E|x_0 - best|² + E|best - f|², as best = E[x_0 | x_t]: so the second part is measured alone, free of
    the noise of the first.
    """
    generator = torch.Generator().manual_seed(99)
    found = []
    for t in levels:
        x_0 = data.sample(n, generator)
        x_t = q_sample(x_0, t, PATH, torch.randn(x_0.shape, generator=generator))
        found.append(float((denoise(x_t, t) - data.denoise(x_t, t, PATH)).square().mean()))
    return torch.tensor(found)


def test_excess_is_what_the_error_has_above_the_best():
    silent = Denoiser(Says(), PATH, "v", 0.0, MIXTURE_STD)
    generator = torch.Generator().manual_seed(5)
    n, t = 4000, LEVELS[2]
    x_0 = MIXTURE.sample(n, generator)
    x_t = q_sample(x_0, t, PATH, torch.randn(x_0.shape, generator=generator))
    gap = (silent(x_t, t) - x_0).square() - (MIXTURE.denoise(x_t, t, PATH) - x_0).square()
    gap = gap.flatten(1).mean(1)
    assert abs(gap.mean() - excess(silent, MIXTURE, [t], n)[0]) < 5 * gap.std() / math.sqrt(n) * math.sqrt(2)


# What is learned is counted from what the wrapper knows by itself: F = 0, the best guess pixel by pixel.
LEARNERS = {
    "cnn": lambda: PlainCNN(1, 24, 7),
    "dae": lambda: DAE(1, 8, 16, 64),
    "dae_skips": lambda: DAE(1, 8, 16, 64, skips=True),
    "attention": lambda: AttentionDenoiser(1, 48, 3),
    "unet": lambda: UNet(1, (32, 48), 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_every_network_learns_most_of_what_there_is_to_learn(name):
    torch.manual_seed(0)
    denoise = taught(LEARNERS[name](), MIXTURE, MIXTURE_STD)
    found = excess(denoise, MIXTURE, LEVELS)
    silent = excess(Denoiser(Says(), PATH, "v", 0.0, MIXTURE_STD), MIXTURE, LEVELS)
    covariance = torch.cov(MIXTURE.means.T, correction=0) + 0.1 * torch.eye(64, dtype=torch.float64)
    best_linear = excess(Gaussian(MIXTURE.means.mean(0).reshape(1, 8, 8), covariance).denoiser(PATH), MIXTURE, LEVELS)
    said = "\n".join(
        f"log-SNR {log_snr:+.0f}: excess {f:.4f}, best linear {b:.4f}, wrapper alone {s:.4f}"
        for log_snr, f, b, s in zip(LOG_SNRS, found, best_linear, silent, strict=True)
    )
    print(f"\n{name}\n{said}")
    learned = 1 - found / silent
    if name == "dae":
        # Through a code, of the noisy image only what is common survives: fine grain at low noise cannot be learned.
        assert (learned[2:] > 0.5).all(), said
        assert (learned[:2] > 0).all(), said
        return
    # Two seeds gave 0.80 at the least, for the plain CNN at log-SNR -2; 1 would be Bayes' own.
    assert (learned > 0.6).all(), said
    if name in ("dae_skips", "unet"):
        # In the middle the parts of the mixture must be told apart, which no linear filter can.
        assert (found[2:4] < 0.6 * best_linear[2:4]).all(), said


@pytest.mark.slow
def test_a_network_must_be_told_the_noise_level_where_the_image_does_not_show_it():
    """White Gaussian data, scaled to unit variance, looks the same at every t: no blind network can serve two levels.

    E[x_0 | x_t] = a(t) c_in x_t, a = alpha s² c_in. Whatever a blind network says to two levels, seen equally often,
    its mean excess is ((a_1 - a_2) / 2)² at least.
    """
    data, levels = Gaussian(torch.zeros(1, 8, 8), 1.0), [LEVELS[1], LEVELS[3]]
    found = {}
    for time in (True, False):
        torch.manual_seed(0)
        network = PlainCNN(1, 16, 3, time=time)
        found[time] = excess(taught(network, data, 1.0, predict="x0", times=levels, steps=200), data, levels)
    a_1, a_2 = (float(PATH.coeffs(t)[0]) for t in levels)
    least = ((a_1 - a_2) / 2) ** 2
    said = f"excess told {found[True].tolist()}, blind {found[False].tolist()}, blind at best {least:.4f}"
    print("\n" + said)
    # A mean of squares over 1024 · 64 pixels has a standard error of sqrt(2 / 65536) = 0.6 %: three of them.
    assert found[False].mean() > 0.98 * least, said
    assert found[True].mean() < 0.2 * least, said


def test_a_frozen_network_is_described_like_any_other():
    network = UNet(1, widths=(8, 16), blocks=1)
    wanted = describe(network, (1, 8, 8))
    frozen = describe(network.requires_grad_(False), (1, 8, 8), batch=2)
    assert frozen.activation_bytes == wanted.activation_bytes > 0
    assert not any(weight.requires_grad for weight in network.parameters())


def test_a_unet_has_as_many_blocks_at_each_level_as_it_is_told():
    deep = UNet(1, (16, 32), (1, 3))
    assert [len(level) for level in deep.down] == [len(level) for level in deep.up] == [1, 3]
    x, level = draw(2, 1, 8, 8, dtype=torch.float32), torch.zeros(2)
    assert stirred(deep)(x, level).shape == x.shape
    one, each = stirred(UNet(1, (16, 32), 2)), UNet(1, (16, 32), [2, 2])
    each.load_state_dict(one.state_dict())
    assert torch.equal(one.eval()(x, level), each.eval()(x, level))
    with pytest.raises(ValueError, match=r"blocks: wanted one number, or one for each of 2 levels, got \(1, 2, 3\)"):
        UNet(1, (16, 32), (1, 2, 3))
