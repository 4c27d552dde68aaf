"""A second time in networks, samplers that jump, and flow matching as v-prediction in other coordinates."""

import functools
import itertools
import math

import pytest
import torch
from torch import nn

from course_utils import samplers
from course_utils.denoisers import Denoiser, UNet
from course_utils.denoisers.embeddings import NoiseEmbedding
from course_utils.parameterizations import convert, x0_from_v
from course_utils.pretrained import load_denoiser
from course_utils.schedules import FlowMatching, VPCosine, VPLinear, linear
from course_utils.tensors import broadcast
from course_utils.toy import GaussianMixture

FLOW = FlowMatching()
SMALL = {"channels": 1, "widths": (8, 16), "blocks": 1, "num_classes": 3}


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def stirred(network, seed=0, scale=0.1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight += scale * torch.randn(weight.shape, generator=generator).to(weight)
    return network.eval()


# --- a second time ---------------------------------------------------------------------------------------------------


def test_a_shipped_network_that_is_given_a_second_time_answers_as_before_to_the_bit():
    before = load_denoiser("mnist-unet")
    network = UNet(1, (64, 128), 1, num_classes=10, second_time=True)
    missing, unexpected = network.load_state_dict(before.network.state_dict(), strict=False)
    assert {name.split(".")[1] for name in missing} == {"second"}
    assert not unexpected
    after = Denoiser(network.eval(), before.schedule, "v", before.data_mean, before.data_std)
    x, t, label = normal(3, 1, 28, 28, dtype=torch.float32), torch.tensor([3, 400, 1000]), torch.tensor([7, -1, 0])
    plain = before(x, t, label=label)
    for r in (None, 0, 400, torch.tensor([1, 20, 999])):
        assert torch.equal(after(x, t, r=r, label=label), plain)


def test_a_second_time_is_heard_and_left_out_is_the_first():
    denoise = Denoiser(stirred(UNet(**SMALL, second_time=True)), linear())
    x, t = normal(2, 1, 8, 8, dtype=torch.float32), torch.tensor([900, 30])
    here = denoise(x, t)
    assert torch.equal(denoise(x, t, r=t), here)
    to_clean, to_middle = denoise(x, t, r=0), denoise(x, t, r=torch.tensor([400, 15]))
    assert to_clean.isfinite().all()  # whose log-SNR is infinite
    for a, b in [(here, to_clean), (here, to_middle), (to_clean, to_middle)]:
        assert ((a - b).abs().flatten(1).amax(1) > 1e-4).all()


def test_a_network_of_one_time_says_that_it_knows_no_other():
    with pytest.raises(ValueError, match="r: this network was made to be told one time"):
        Denoiser(UNet(**SMALL), linear())(normal(1, 1, 8, 8, dtype=torch.float32), 900, r=0)
    with pytest.raises(ValueError, match="r: this network was made to be told one time"):
        NoiseEmbedding(8)(torch.zeros(2), log_snr_r=torch.zeros(2))


def test_a_second_time_changes_no_weight_that_was_there():
    """Embedding and network draw theirs after all others: a recipe's start stays what it was."""
    torch.manual_seed(0)
    plain = NoiseEmbedding(8, 3).state_dict()
    torch.manual_seed(0)
    both = NoiseEmbedding(8, 3, second_time=True).state_dict()
    assert all(torch.equal(both[name], value) for name, value in plain.items())


# --- samplers that jump ----------------------------------------------------------------------------------------------

M, S = 0.7, 0.4  # mean and variance of one Gaussian: its flow is a line


def exact_jump(x_t, t, r, schedule):
    """(x_r - alpha_r m) / deviation_r = (x_t - alpha_t m) / deviation_t."""
    (alpha_t, sigma_t), (alpha_r, sigma_r) = schedule.coeffs(t), schedule.coeffs(r)
    widths = ((alpha_r**2 * S + sigma_r**2) / (alpha_t**2 * S + sigma_t**2)).sqrt()
    return alpha_r * M + widths * (x_t - alpha_t * M)


def exact_guess(x_t, t, *, r, schedule):
    """The x0_hat with which the jump of DDIM from t to r is the exact one."""
    (alpha_t, sigma_t), (alpha_r, sigma_r) = schedule.coeffs(t), schedule.coeffs(r)
    return (exact_jump(x_t, t, r, schedule) - sigma_r / sigma_t * x_t) / (alpha_r - sigma_r / sigma_t * alpha_t)


@pytest.mark.parametrize("schedule", [linear(), VPLinear(), FLOW], ids=repr)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_flow_map_goes_the_exact_way_in_any_number_of_jumps(schedule, n):
    grid, asked = samplers.uniform_grid(schedule, n), []

    def denoise(x_t, t, *, r):
        asked.append((t, r))
        return exact_guess(x_t, t, r=r, schedule=schedule)

    x_T = schedule.coeffs(grid[0])[1] * normal(50, 2)
    x_0 = samplers.sample_flow_map(denoise, x_T, schedule, grid)
    torch.testing.assert_close(x_0, exact_jump(x_T, grid[0], grid[-1], schedule), rtol=1e-10, atol=1e-10)
    assert asked == list(itertools.pairwise(grid))  # one call a jump, told both of its ends


def test_a_flow_map_whose_guess_does_not_depend_on_r_is_ddim():
    def denoise(x_t, t, **cond):
        return torch.tanh(x_t) / 2

    x_T, grid = normal(4, 3), samplers.quadratic_grid(linear(), 7)
    torch.testing.assert_close(
        samplers.sample_flow_map(denoise, x_T, linear(), grid),
        samplers.sample_ddim(denoise, x_T, linear(), grid),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("schedule", [linear(), FLOW], ids=repr)
def test_consistency_sampling_goes_to_clean_data_and_back_up_with_fresh_noise(schedule):
    n, asked = 100_000, []
    grid = [1000, 600, 200, 0] if schedule.T else [1.0, 0.6, 0.2, 0.0]

    def denoise(x_t, t, *, r):
        asked.append((t, r))
        return exact_jump(x_t, t, r, schedule)

    steps = []
    alpha, sigma = schedule.coeffs(grid[0])
    x_T = alpha * M + (alpha**2 * S + sigma**2).sqrt() * normal(n, 1)
    x_0 = samplers.sample_consistency(
        denoise, x_T, schedule, grid, generator=torch.Generator().manual_seed(1), callback=steps.append
    )
    assert asked == [(t, 0) for t in grid[:-1]]
    assert torch.equal(steps[-1].x_s, steps[-1].x0_hat)  # nothing is added at the end
    for step in steps[:-1]:  # x_s = alpha_s x_0 + sigma_s z, with a z that knows nothing of x_0
        alpha, sigma = schedule.coeffs(step.s)
        z = (step.x_s - alpha * step.x0_hat) / sigma
        for found, wanted, error in [
            (z.mean(), 0, 1),
            (z.square().mean(), 1, 2**0.5),
            ((z * step.x0_hat).mean(), 0, step.x0_hat.square().mean().sqrt()),
        ]:
            assert abs(found - wanted) < 5 * error / math.sqrt(n)
    for step in steps:  # each jump ends on the data's own distribution
        assert abs(step.x0_hat.mean() - M) < 5 * math.sqrt(S / n)
        assert abs(step.x0_hat.var() / S - 1) < 5 * math.sqrt(2 / n)
    assert torch.equal(x_0, steps[-1].x_s)


def test_samplers_that_jump_need_a_network_of_two_times():
    denoise = Denoiser(UNet(**SMALL), linear())
    for sample in (samplers.sample_flow_map, samplers.sample_consistency):
        with pytest.raises(ValueError, match="r: this network was made to be told one time"):
            sample(denoise, normal(1, 1, 8, 8, dtype=torch.float32), linear(), [1000, 0])


# --- flow matching is v-prediction in other coordinates ---------------------------------------------------------------


class Told(nn.Module):
    """Some network, in float64, of an image and its log-SNR."""

    def forward(self, x, log_snr):
        return torch.tanh(x + 0.3 * log_snr.double()[:, None] / 5) + 0.2 * x.roll(1, -1)


def read_as_v(x_vp, t, schedule):
    return x0_from_v(x_vp, Told()(x_vp, schedule.log_snr(t).expand(len(x_vp))), t, schedule)


def read_as_u(x_flow, t):
    """u = (v - (1 - 2t) x / n) / n,  n² = (1 - t)² + t²: what the same answer says on the straight path."""
    alpha, sigma = FLOW.coeffs(t)
    n = (alpha**2 + sigma**2).sqrt()
    v = Told()(x_flow / n, FLOW.log_snr(t).expand(len(x_flow)))
    u = (v - (alpha - sigma) * x_flow / n) / n
    return convert(u, "u", "x0", x_flow, t, FLOW)


SAMPLERS = {
    "ddim": samplers.sample_ddim,
    "ddpm": samplers.sample_ddpm,
    "euler": samplers.sample_euler,
    "heun": samplers.sample_heun,
    "dpmpp_2s": samplers.sample_dpmpp_2s,
    "dpmpp_2m": samplers.sample_dpmpp_2m,
    "unipc": functools.partial(samplers.sample_unipc, order=3),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("schedule", [VPCosine(), VPLinear()], ids=repr)
def test_one_network_read_as_v_and_as_u_draws_the_same_from_the_same_noises(name, schedule):
    grid = [0.97, 0.8, 0.55, 0.3, 0.12, 0.02, 0.0]
    levels = [schedule.log_snr(t) for t in grid[:-1]]
    straight = [FLOW.t_at_log_snr(level).item() for level in levels] + [0.0]
    x_vp = normal(5, 4)
    n = broadcast((FLOW.coeffs(straight[0])[0] ** 2 + FLOW.coeffs(straight[0])[1] ** 2).sqrt(), x_vp)
    as_v = SAMPLERS[name](
        lambda x, t: read_as_v(x, t, schedule), x_vp, schedule, grid, generator=torch.Generator().manual_seed(3)
    )
    as_u = SAMPLERS[name](read_as_u, n * x_vp, FLOW, straight, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(as_u, as_v, rtol=1e-9, atol=1e-9)


def test_the_wrapper_says_the_same_on_both_paths():
    """`Denoiser` scales its input by its size and tells the log-SNR: one v-network serves both paths as it is."""
    network, schedule = Told(), VPCosine()
    on_vp, on_flow = (Denoiser(network, path, "v", -0.4, 0.6) for path in (schedule, FLOW))
    for t in (0.9, 0.5, 0.05):
        u = FLOW.t_at_log_snr(schedule.log_snr(t))
        n = (FLOW.coeffs(u)[0] ** 2 + FLOW.coeffs(u)[1] ** 2).sqrt()
        x = normal(3, 4)
        torch.testing.assert_close(on_flow(n * x, u), on_vp(x, t), rtol=1e-7, atol=1e-7)  # log-SNR in float32


def test_the_flow_matching_loss_is_the_v_loss_over_n_squared():
    x_0, eps, guess = normal(6, 2), normal(6, 2, seed=1), normal(6, 2, seed=2)
    for t in (0.1, 0.5, 0.8):
        alpha, sigma = FLOW.coeffs(t)
        n2 = alpha**2 + sigma**2
        x_t = alpha * x_0 + sigma * eps
        u_error = (convert(guess, "x0", "u", x_t, t, FLOW) - (eps - x_0)).square()
        v = (alpha * eps - sigma * x_0) / n2.sqrt()
        v_hat = (alpha * (x_t - alpha * guess) / sigma - sigma * guess) / n2.sqrt()
        torch.testing.assert_close((v_hat - v).square(), n2 * u_error)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_follows_the_exact_flow_of_a_mixture_on_the_straight_path(name):
    """In one dimension the flow map is the quantile map; all samplers end on it as their steps grow many."""
    data = GaussianMixture(torch.tensor([[-1.0], [1.5]], dtype=torch.float64), 0.09, torch.tensor([0.3, 0.7]))
    x_T = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    if name == "ddpm":
        x_T = normal(20_000, 1)
    steps = 200 if name in ("ddpm", "ddim", "euler") else 60
    grid = [0.999 * (1 - i / steps) for i in range(steps + 1)]
    x_0 = SAMPLERS[name](data.denoiser(FLOW), x_T, FLOW, grid, generator=torch.Generator().manual_seed(1))

    def cdf(x):
        parts = (x - data.means.T) / data.variances.T.sqrt()
        return (torch.special.ndtr(parts) * data.weights).sum(-1)

    if name == "ddpm":  # at random: the same distribution
        rank = cdf(x_0).sort().values
        assert (rank - (torch.arange(20_000) + 0.5) / 20_000).abs().max() < 1.95 / math.sqrt(20_000) + 0.01
    else:
        error = {"ddim": 0.02, "euler": 0.02}.get(name, 2e-3)
        torch.testing.assert_close(cdf(x_0), torch.special.ndtr(x_T[:, 0]), rtol=0, atol=error)
