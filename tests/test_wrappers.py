"""Around a denoiser: clipping, as the formula and as diffusers has it. Around a sampler: batches and a progress bar."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from test_samplers import normal, stream

from course_utils.samplers import sample_ddim, sample_ddpm, sample_dpmpp_2m, uniform_grid, wrappers
from course_utils.samplers.wrappers import clip_x0, dynamic_threshold, in_batches, with_progress
from course_utils.schedules import linear

SCHEDULE = linear(40, 1e-3, 0.2)
GRID = uniform_grid(SCHEDULE, 8)


def wild(x_t, t, **cond):
    return 3 * torch.tanh(2 * x_t) - x_t  # anything but linear, and often outside of [-1, 1]


def always(x0_hat):
    return lambda x_t, t, **cond: x0_hat


# --- the guess -------------------------------------------------------------------------------------------------------


def test_a_clipped_guess_is_nearer_to_every_picture_there_may_be():
    guess, x_0 = 3 * normal(50, 2, 5, 5), normal(50, 2, 5, 5, seed=1).clamp(-1, 1)
    clipped = clip_x0(always(guess))(guess, 3)
    assert clipped.abs().max() == 1
    assert torch.equal(clipped[guess.abs() <= 1], guess[guess.abs() <= 1])
    assert ((clipped - x_0).abs() <= (guess - x_0).abs()).all()
    assert ((clipped - x_0).abs() < (guess - x_0).abs())[guess.abs() > 1].all()


def test_other_bounds_clip_at_them():
    guess = torch.tensor([[-3.0, 0.2, 0.4, 0.6, 7.0]])
    assert clip_x0(always(guess), 0.25, 0.5)(guess, 3).tolist() == [[0.25, 0.25, pytest.approx(0.4), 0.5, 0.5]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dynamic_thresholding_takes_its_measure_from_each_image(dtype):
    """Among 201 values the 0.995 quantile is the second largest: 199 steps of 200."""
    guess = torch.linspace(-1, 1, 201).expand(3, 201).clone()
    guess[0] *= 0.5  # within [-1, 1]: left alone
    guess[1] *= 4
    guess[2, :3] = torch.tensor([40.0, -30.0, 20.0])
    guess = guess.reshape(3, 3, 67).to(dtype)
    got = dynamic_threshold(always(guess))(guess, 3)
    second = [sorted(image.abs().flatten().tolist())[-2] for image in guess]
    assert second[1:] == [4.0, 30.0]
    want = torch.stack([guess[0], guess[1] / 4, guess[2].clamp(-30, 30) / 30])
    assert got.dtype == dtype
    assert torch.equal(got[0], guess[0])
    torch.testing.assert_close(got, want, rtol=2e-2 if dtype == torch.bfloat16 else 1e-4, atol=1e-5)
    assert torch.equal(dynamic_threshold(always(guess[1:2]))(guess[1:2], 3), got[1:2])  # whoever its neighbours are


def test_the_median_as_measure_clips_half_of_an_image_to_the_ends():
    guess = 5 * normal(1, 1, 9, 11)
    got = dynamic_threshold(always(guess), 0.5)(guess, 3)
    assert (got.abs() == 1).sum() == 50  # of 99, the median among them
    torch.testing.assert_close(got[got.abs() < 1], guess[got.abs() < 1] / guess.abs().median())


THEIRS = {
    "clipped": (clip_x0(wild), {"clip_sample": True}),
    "narrowly": (clip_x0(wild, -0.4, 0.4), {"clip_sample": True, "clip_sample_range": 0.4}),
    "dynamic": (
        dynamic_threshold(wild, 0.9),
        {"clip_sample": False, "thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1e9},
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("denoise", "options"), THEIRS.values(), ids=THEIRS.keys())
@pytest.mark.parametrize("kind", [DDPMScheduler, DDIMScheduler])
def test_every_step_is_that_of_diffusers_on_the_same_noise(kind, denoise, options, dtype):
    """DDIM there clips the guess and keeps the noise of the unclipped one, unless told otherwise."""
    betas, generators = SCHEDULE.betas[1:].numpy(), (stream(1), stream(1))
    scheduler = kind(40, trained_betas=betas, prediction_type="sample", timestep_spacing="trailing", **options)
    scheduler.set_timesteps(8)
    scheduler.alphas_cumprod = SCHEDULE.alpha_bar[1:]  # their own table is in float32
    steps, x = [], normal(3, 1, 4, 4, dtype=dtype)
    if kind is DDPMScheduler:
        sample_ddpm(denoise, x, SCHEDULE, GRID, generator=generators[0], callback=steps.append)
        extra = {}
    else:
        sample_ddim(denoise, x, SCHEDULE, GRID, eta=0.6, generator=generators[0], callback=steps.append)
        extra = {"eta": 0.6, "use_clipped_model_output": True}
    for step, index in zip(steps, scheduler.timesteps, strict=True):
        assert not torch.allclose(step.x0_hat, wild(step.x_t, step.t), atol=0.1)  # clipping is active
        x = scheduler.step(wild(x, None), index, x, generator=generators[1], **extra).prev_sample
        digits = 1e-4 if dtype == torch.float32 else 1e-9  # no variance of theirs is below 1e-20
        torch.testing.assert_close(step.x_s, x, rtol=digits, atol=digits)


@pytest.mark.parametrize("wrap", [clip_x0, dynamic_threshold])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_breakdown_is_not_clipped_away(wrap, bad):
    def denoise(x_t, t):
        x0_hat = x_t / 2
        if t == 20:
            x0_hat[1, 2] = bad
        return x0_hat

    with pytest.raises(ValueError, match=r"denoise: returned NaN or infinity at step 1, t = 20"):
        sample_ddim(wrap(denoise), normal(2, 3), SCHEDULE, [40, 20, 0])


def test_conditions_pass_through():
    label, seen = torch.tensor([3, 8]), []

    def denoise(x_t, t, **cond):
        seen.append((t, cond))
        return x_t / 2

    sample_ddim(clip_x0(dynamic_threshold(denoise)), normal(2, 3), SCHEDULE, [40, 20, 0], label=label)
    assert [t for t, _ in seen] == [40, 20]
    assert all(cond == {"label": label} and cond["label"] is label for _, cond in seen)


@pytest.mark.parametrize("quantile", [0.0, -0.5, 1.01, math.nan])
def test_what_is_no_quantile_is_refused(quantile):
    with pytest.raises(ValueError, match=r"quantile: wanted a number in \(0, 1\]"):
        dynamic_threshold(wild, quantile)


@pytest.mark.parametrize(("low", "high"), [(1.0, -1.0), (0.5, 0.5), (math.nan, 1.0)])
def test_bounds_the_wrong_way_round_are_refused(low, high):
    with pytest.raises(ValueError, match=r"(low|high): wanted a number in"):
        clip_x0(wild, low, high)


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(st.integers(1, 9), st.integers(1, 12))
def test_batches_are_the_sampler_run_by_hand_on_one_after_the_other(n, batch_size):
    x_T, by_hand = normal(n, 3), stream(1)
    parts = [sample_ddpm(wild, x, SCHEDULE, GRID, generator=by_hand) for x in x_T.split(batch_size)]
    batched = in_batches(sample_ddpm, batch_size)(wild, x_T, SCHEDULE, GRID, generator=stream(1))
    assert torch.equal(batched, torch.cat(parts))


@pytest.mark.parametrize("sample", [sample_ddim, sample_dpmpp_2m])
def test_without_noise_on_the_way_batches_change_nothing(sample):
    x_T = normal(7, 1, 4, 4)
    assert torch.equal(in_batches(sample, 3)(wild, x_T, SCHEDULE, GRID), sample(wild, x_T, SCHEDULE, GRID))


def test_what_belongs_to_images_is_split_and_what_does_not_is_not():
    seen, labels, table, text = [], torch.arange(5), normal(10, 3), normal(5, 7)

    def denoise(x_t, t, *, label, w, table, text):
        seen.append((len(x_t), label.tolist(), w, table.shape, text.shape))
        return x_t / 2

    given = {"label": labels, "w": torch.tensor(2.0), "table": table, "text": text}
    in_batches(sample_ddim, 2)(denoise, normal(5, 3), SCHEDULE, [40, 0], **given)
    assert seen == [
        (2, [0, 1], 2.0, (10, 3), (2, 7)),
        (2, [2, 3], 2.0, (10, 3), (2, 7)),
        (1, [4], 2.0, (10, 3), (1, 7)),
    ]


def test_the_callback_gets_the_steps_of_each_batch_in_turn():
    steps, x_T = [], normal(5, 3)
    x_0 = in_batches(sample_ddpm, 3)(wild, x_T, SCHEDULE, [40, 9, 0], generator=stream(), callback=steps.append)
    assert [(step.i, len(step.x_t)) for step in steps] == [(0, 3), (1, 3), (0, 2), (1, 2)]
    assert torch.equal(torch.cat([steps[1].x_s, steps[3].x_s]), x_0)


def test_no_images_are_no_images():
    assert in_batches(sample_ddim, 4)(wild, normal(0, 3), SCHEDULE, GRID).shape == (0, 3)


def test_a_batch_of_none_is_refused():
    with pytest.raises(ValueError, match="batch_size: wanted 1 or more, got 0"):
        in_batches(sample_ddim, 0)


# --- the bar ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def bars(monkeypatch):
    """Every progress bar that is opened."""
    opened, make = [], wrappers.tqdm

    def recorded(*args, **options):
        opened.append(make(*args, **options))
        return opened[-1]

    monkeypatch.setattr(wrappers, "tqdm", recorded)
    return opened


def test_the_bar_fills_up_and_changes_nothing(bars, capsys):
    steps, plain, x_T = [], [], normal(5, 3)
    x_0 = with_progress(sample_ddpm, "digits")(
        wild, x_T, SCHEDULE, GRID, generator=stream(), callback=lambda step: steps.append((step, bars[0].n))
    )
    assert torch.equal(x_0, sample_ddpm(wild, x_T, SCHEDULE, GRID, generator=stream(), callback=plain.append))
    assert [bars[0].n, bars[0].total] == [40, 40]
    assert [n for _, n in steps] == list(range(5, 41, 5))
    for (step, _), same in zip(steps, plain, strict=True):
        assert (step.i, step.t, step.s) == (same.i, same.t, same.s)
        assert torch.equal(step.x_s, same.x_s)
    assert "digits: 100%" in capsys.readouterr().err


def test_around_batches_it_is_one_bar_and_inside_them_one_for_each(bars):
    x_T = normal(5, 3)
    for sample in (with_progress(in_batches(sample_ddim, 2)), in_batches(with_progress(sample_ddim), 2)):
        assert torch.equal(sample(wild, x_T, SCHEDULE, GRID), sample_ddim(wild, x_T, SCHEDULE, GRID))
    assert [(bar.n, bar.total) for bar in bars] == [(40, 40), (16, 16), (16, 16), (8, 8)]


def test_a_bar_is_closed_when_sampling_fails(bars):
    with pytest.raises(ValueError, match="at step 1, t = 20"):
        with_progress(sample_ddim)(lambda x, t: x * (math.nan if t == 20 else 1), normal(2, 3), SCHEDULE, [40, 20, 0])
    assert bars[0].disable  # what tqdm sets on a closed bar
    assert bars[0].n == 2
