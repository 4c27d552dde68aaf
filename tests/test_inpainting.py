"""Inpainting against closed form: exact conditionals of mixtures, and the exact law of what each method draws."""

import itertools

import pytest
import torch
from test_samplers import normal

from course_utils.guidance import classifier_free
from course_utils.inpainting import box_mask, conditional, image_to_image, sample_repaint, towards, with_known
from course_utils.samplers import sample_ddim, sample_ddpm, sample_dpmpp_2m, sample_heun, sample_unipc, uniform_grid
from course_utils.schedules import VE, VPCosine, linear
from course_utils.schedules.jumps import jump
from course_utils.toy import Gaussian, GaussianMixture, IdealDenoiser

FULL = GaussianMixture(
    torch.tensor([[-1.0, 0.5, 0.2], [0.8, -0.6, 0.1]]).double(),
    torch.tensor(
        [[[0.5, 0.3, 0.1], [0.3, 0.4, 0.0], [0.1, 0.0, 0.3]], [[0.3, -0.1, 0.0], [-0.1, 0.2, 0.1], [0.0, 0.1, 0.6]]]
    ),
    torch.tensor([0.3, 0.7]),
)
DIAGONAL = GaussianMixture(torch.tensor([[-1.0, 0.5], [0.8, -0.6]]).double(), torch.tensor([[0.5, 0.1], [0.2, 0.3]]))


@pytest.mark.parametrize(
    ("mixture", "mask"),
    [(FULL, [True, False, True]), (FULL, [False, True, True]), (DIAGONAL, [True, False]), (DIAGONAL, [False, True])],
)
def test_the_conditional_is_bayes_on_a_grid(mixture, mask):
    mask = torch.tensor(mask)
    y, u = (
        torch.tensor([0.3, -0.4, 0.7])[: len(mask)].double(),
        torch.linspace(-7, 7, 4001, dtype=torch.float64)[:, None],
    )
    whole = y.repeat(len(u), 1)
    whole[:, ~mask] = u
    joint = mixture.log_prob(whole).exp()
    wanted = joint / (joint.sum() * (u[1] - u[0]))
    torch.testing.assert_close(conditional(mixture, y, mask).log_prob(u).exp(), wanted, rtol=1e-8, atol=1e-12)


@pytest.fixture
def two_threads():
    """Asked of PyTorch itself, as a crowded container makes us do: there its batched LU is wrong (its issue 142815)."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_conditional_of_many_coordinates_is_right_on_two_threads(two_threads):
    d, mask, generator = 240, torch.arange(240) % 6 > 0, torch.Generator().manual_seed(0)
    roots = torch.randn(2, d, d, generator=generator, dtype=torch.float64)
    S = roots @ roots.mT / d + 0.1 * torch.eye(d)
    mixture = GaussianMixture(torch.zeros(2, d).double(), S)
    y = torch.randn(d, generator=generator, dtype=torch.float64)
    wanted = torch.stack([part[~mask][:, mask] @ torch.linalg.solve(part[mask][:, mask], y[mask]) for part in S])
    torch.testing.assert_close(conditional(mixture, y, mask).means, wanted, rtol=1e-8, atol=1e-10)


def test_what_is_known_must_be_something_and_not_all():
    for mask in ([True, True], [False, False]):
        with pytest.raises(ValueError, match="mask"):
            conditional(DIAGONAL, torch.zeros(2), torch.tensor(mask))


# --- replacement ------------------------------------------------------------------------------------------------------

KNOWN, MASK = torch.tensor([0.4, 0.0]).double(), torch.tensor([True, False])


@pytest.mark.parametrize("schedule", [linear(), VPCosine(), VE(0.01, 20.0)])
def test_known_pixels_are_at_the_level_of_the_new_step(schedule):
    """DDIM keeps their noise as it is: x_s = alpha_s y + sigma_s eps, with one eps all the way."""
    start = 0.99 if schedule.T is None else 1000
    alpha, sigma = schedule.coeffs(start)
    eps, steps = normal(5, 2, seed=1), []
    x_T = alpha * KNOWN + sigma * eps
    grid = [
        t if schedule.T is None else round(1000 * t)
        for t in (start if schedule.T is None else 1.0, 0.6, 0.3, 0.05, 0.0)
    ]
    denoise = with_known(DIAGONAL.denoiser(schedule), KNOWN, MASK)
    got = sample_ddim(denoise, x_T, schedule, grid, callback=steps.append)
    for step in steps:
        alpha, sigma = schedule.coeffs(step.s)
        torch.testing.assert_close(step.x_s[:, 0], alpha * KNOWN[0] + sigma * eps[:, 0], rtol=1e-9, atol=1e-9)
    assert torch.equal(got[:, 0], KNOWN[:1].expand(5))
    assert got[:, 1].std() > 0


@pytest.mark.parametrize("sample", [sample_ddim, sample_ddpm, sample_dpmpp_2m, sample_heun, sample_unipc])
def test_every_sampler_ends_at_the_truth(sample):
    schedule = linear()
    denoise = with_known(DIAGONAL.denoiser(schedule), KNOWN, MASK)
    x = sample(denoise, normal(4, 2), schedule, uniform_grid(schedule, 10), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(x[:, 0], KNOWN[:1].expand(4), rtol=1e-12, atol=1e-12)


def test_it_fills_a_guided_denoiser_too():
    schedule, images = linear(200, 1e-4, 0.1), normal(6, 1, 2, 3).clamp(-1, 1)
    labels, mask = torch.tensor([0, 0, 0, 1, 1, 1]), box_mask(2, 3, 0, 1, 2, 3)
    guided = classifier_free(IdealDenoiser(images, schedule, labels), 2.0)
    how = {"label": torch.tensor([1, 0])}
    x = sample_ddpm(
        with_known(guided, images[4], mask),
        normal(2, 1, 2, 3),
        schedule,
        uniform_grid(schedule, 200),
        generator=torch.Generator().manual_seed(0),
        **how,
    )
    torch.testing.assert_close(x[:, 0][:, mask], images[4, 0][mask].expand(2, -1))
    nearest = torch.cdist(x.flatten(1)[:, ~mask.flatten()], images.flatten(1)[:, ~mask.flatten()]).argmin(1)
    assert torch.equal(labels[nearest], how["label"])  # what is unknown follows the class


def test_a_box_is_unknown():
    assert box_mask(3, 4, 1, 1, 3, 3).int().tolist() == [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1]]


# --- resampling -------------------------------------------------------------------------------------------------------

MEAN, S = torch.tensor([0.3, -0.5]).double(), torch.tensor([[0.6, 0.4], [0.4, 0.5]]).double()


def exact_law(schedule, grid, rounds):
    """Mean and covariance of what `sample_repaint` draws of a Gaussian, whose denoiser is a line: nothing is drawn."""
    _alpha, sigma = schedule.coeffs(grid[0])
    mean, P, eye = torch.zeros(2).double(), sigma**2 * torch.eye(2).double(), torch.eye(2).double()
    pick = torch.diag(MASK.double())
    for t, s in itertools.pairwise(grid):
        step = jump(t, s, schedule)
        a, k, variance = step.posterior
        A = step.alpha_t * S @ torch.linalg.inv(step.alpha_t**2 * S + step.sigma_t**2 * eye)
        move, shift = a * eye + k * A, k * (MEAN - step.alpha_t * A @ MEAN)
        for left in reversed(range(rounds)):
            free = eye - pick
            mean = free @ (move @ mean + shift) + pick @ (step.alpha_s * KNOWN)
            P = free @ (move @ P @ move.T + variance * eye) @ free + pick * step.sigma_s**2
            if left:
                mean, P = step.alpha_ts * mean, step.alpha_ts**2 * P + step.variance_ts * eye
    return mean, P


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_what_it_draws_of_a_gaussian_has_the_law_that_linear_algebra_says(rounds):
    schedule, n = linear(), 4000
    grid, generator = uniform_grid(schedule, 10), torch.Generator().manual_seed(rounds)
    x_T = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    asked = []
    denoise = Gaussian(MEAN, S).denoiser(schedule)
    x = sample_repaint(
        lambda x_t, t: (asked.append(t), denoise(x_t, t))[1],
        x_T,
        schedule,
        grid,
        known=KNOWN,
        mask=MASK,
        rounds=rounds,
        generator=generator,
    )
    mean, P = exact_law(schedule, grid, rounds)
    assert len(asked) == 10 * rounds
    assert torch.equal(x[:, 0], KNOWN[:1].expand(n))
    assert abs(x[:, 1].mean() - mean[1]) < 4 * (P[1, 1] / n) ** 0.5
    assert abs(x[:, 1].var() / P[1, 1] - 1) < 4 * (2 / n) ** 0.5


def test_more_rounds_come_nearer_to_the_exact_conditional():
    schedule, exact = linear(), conditional(Gaussian(MEAN, S), KNOWN, MASK)
    laws = [exact_law(schedule, uniform_grid(schedule, 50), rounds) for rounds in (1, 5, 40)]
    away = [abs(mean[1] - exact.means[0, 0]).item() for mean, _ in laws]
    assert away[0] > 2 * away[1] > 4 * away[2]


def test_at_each_step_the_known_pixels_have_the_noise_of_the_new_level():
    schedule, n, steps = linear(), 4000, []
    denoise = Gaussian(MEAN, S).denoiser(schedule)
    sample_repaint(
        denoise,
        normal(n, 2),
        schedule,
        uniform_grid(schedule, 5),
        known=KNOWN,
        mask=MASK,
        rounds=2,
        generator=torch.Generator().manual_seed(0),
        callback=steps.append,
    )
    for step in steps[:-1]:
        alpha, sigma = schedule.coeffs(step.s)
        known = step.x_s[:, 0]
        assert abs(known.mean() - alpha * KNOWN[0]) < 4 * sigma / n**0.5
        assert abs(known.var() / sigma**2 - 1) < 4 * (2 / n) ** 0.5


# --- by gradient ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [linear(), VE(0.01, 20.0)])
def test_of_a_gaussian_the_gradient_is_the_regression_on_what_was_seen(schedule):
    """x0_hat + Cov(x_0, x_0 seen | x_t) (y - x0_hat seen) / v, the posterior covariance by linear algebra."""
    x_t, s = normal(4, 2, seed=2), 0.7
    t = 400 if schedule.T else 0.4
    alpha, sigma = schedule.coeffs(t)
    posterior = torch.linalg.inv(torch.linalg.inv(S) + alpha**2 / sigma**2 * torch.eye(2).double())
    v = s**2 * sigma**2 / (alpha**2 * s**2 + sigma**2)
    denoise, seen = Gaussian(MEAN, S).denoiser(schedule), MASK.double()
    plain = denoise(x_t, t)
    wanted = plain + 0.8 * (seen * (KNOWN - plain)) @ posterior / v
    with torch.inference_mode():
        got = towards(denoise, lambda x: seen * x, seen * KNOWN, schedule, w=0.8, data_std=s)(x_t, t)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def test_of_a_round_gaussian_it_is_exact():
    """There v is the truth: the guess is y where it is known, and as before elsewhere."""
    schedule, x_t = linear(), normal(4, 2, seed=2)
    denoise, seen = Gaussian(MEAN, 0.49).denoiser(schedule), MASK.double()
    got = towards(denoise, lambda x: seen * x, seen * KNOWN, schedule, data_std=0.7)
    for t in (1, 30, 400, 1000):
        torch.testing.assert_close(got(x_t, t), torch.where(MASK, KNOWN, denoise(x_t, t)), rtol=1e-8, atol=1e-8)


def test_rows_do_not_hear_of_each_other():
    schedule, x_t, seen = linear(), normal(3, 2), MASK.double()
    guided = towards(FULL_2D.denoiser(schedule), lambda x: seen * x, seen * KNOWN, schedule)
    t = torch.tensor([700, 300, 20])
    alone = torch.cat([guided(x_t[i : i + 1], t[i].item()) for i in range(3)])
    torch.testing.assert_close(guided(x_t, t), alone)


FULL_2D = GaussianMixture(torch.tensor([[-1.0, 0.5], [0.8, -0.6]]).double(), S.expand(2, 2, 2))


def test_in_pure_noise_nothing_can_be_pushed():
    with pytest.raises(ValueError, match="alpha is 0"):
        towards(lambda x_t, t: x_t, lambda x: x, KNOWN, VPCosine())(normal(2, 2), 1.0)


# --- from another picture ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [100, 500])
def test_of_a_gaussian_another_picture_has_the_law_of_the_posterior(t):
    """x_0' given x_0: noised, then drawn from q(x_0 | x_t). Ancestral steps of one each leave an error below 1 %."""
    schedule, n, variance = linear(), 4000, 0.5
    alpha, sigma = schedule.coeffs(t)
    gain = alpha * variance / (alpha**2 * variance + sigma**2)
    x_0, grid = torch.full((n, 1), 1.2).double(), list(range(t, -1, -5))
    x = image_to_image(
        sample_ddpm,
        Gaussian(torch.zeros(1).double(), variance).denoiser(schedule),
        x_0,
        schedule,
        grid,
        generator=torch.Generator().manual_seed(t),
    )
    mean, spread = gain * alpha * 1.2, (variance * (1 - gain * alpha) + gain**2 * sigma**2).item()
    assert abs(x.mean() - mean) < 4 * (spread / n) ** 0.5 + 0.01
    assert abs(x.var() / spread - 1) < 4 * (2 / n) ** 0.5 + 0.03


def test_nearly_no_noise_gives_the_picture_back():
    schedule, x_0 = linear(), normal(3, 2)
    x = image_to_image(sample_ddim, FULL_2D.denoiser(schedule), x_0, schedule, [1, 0], generator=torch.Generator())
    assert (x - x_0).abs().max() < 5 * schedule.coeffs(1)[1]


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "mask", "error", "said"),
    [
        (KNOWN, MASK.double(), TypeError, "mask: wanted a tensor of true and false"),
        (KNOWN[:1].expand(3), MASK, ValueError, "known: wanted a shape that spreads"),
        (KNOWN, torch.ones(2, 3, dtype=torch.bool), ValueError, "mask: wanted a shape that spreads"),
    ],
)
def test_what_does_not_fit_is_named(known, mask, error, said):
    schedule, denoise = linear(), DIAGONAL.denoiser(linear())
    how = {"x_T": normal(4, 2), "schedule": schedule, "timesteps": [1000, 0]}
    with pytest.raises(error, match=said):
        sample_repaint(denoise, known=known, mask=mask, **how)
    with pytest.raises(error, match=said):
        sample_ddim(with_known(denoise, known, mask), **how)
