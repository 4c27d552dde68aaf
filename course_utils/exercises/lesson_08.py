"""Checks of lesson 08, from digits to photographs."""

from typing import Any

import torch
from torch import Tensor

from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import Draw, expect, numbers, random_schedule
from course_utils.exercises.engine import exercise

_TIMES = "alpha_bar[t] is (k,), one number for each time; the variance of the images is one number"


@exercise("08.log_snr", "How much signal, really", error_hints={"must match": _TIMES, "size of tensor": _TIMES})
def _(answer: Answer, draw: Draw) -> None:
    for shape, k, dtype in [
        ((6, 3, 8, 8), 4, torch.float64),
        ((3, 1, 6, 6), 3, torch.float64),
        ((4, 3, 5, 5), 1, torch.float32),
        ((20, 2), 5, torch.float64),
    ]:
        schedule = random_schedule(draw, dtype=dtype)
        width, middle = draw.number(0.3, 0.7), draw.number(0.8, 1.5)
        offset = torch.arange(shape[1]).reshape(-1, *[1] * (len(shape) - 2)).to(dtype) * 0.5  # channels of other means
        x_0 = middle + offset + width * draw.normal(*shape, dtype=dtype)
        t, ab = draw.times(1, schedule.T - 1, k), schedule.alpha_bar.to(dtype)
        snr, n = ab / (1 - ab), x_0.numel()
        variance = x_0.var(unbiased=False)
        by_channel = x_0.transpose(0, 1).flatten(1).var(1, unbiased=False).mean()
        by_pixel = x_0.var(0, unbiased=False).mean()
        want = (snr[t] * variance).log()
        got = answer(x_0, t, ab)
        if isinstance(got, Tensor) and got.shape == want.shape:
            divided = want + torch.tensor(n / (n - 1), dtype=torch.float64).log().to(dtype)
            if torch.allclose(got.to(dtype), divided, rtol=1e-6, atol=1e-6):
                got = want  # n - 1 in place of n is a matter of taste
        expect(
            got,
            want,
            what="the log-SNR",
            mistakes={
                "that is the schedule's own: the variance of the images is missing": snr[t].log(),
                "the mean of the pixels carries no signal: take it off before you square": (
                    snr[t] * x_0.square().mean()
                ).log(),
                "s² is the variance; yours has the standard deviation": (snr[t] * variance.sqrt()).log(),
                "alpha_bar is alpha² already; yours squares it again": (ab[t] ** 2 * variance / (1 - ab[t]) ** 2).log(),
                "a ratio of variances, alpha² over sigma²; yours has roots": (snr[t].sqrt() * variance.sqrt()).log(),
                "the noise below the line is 1 - alpha_bar[t]": (ab[t] * variance).log(),
                "that is one step's alpha; alpha_t² is the product of all, alpha_bar[t]": (
                    ab[t] / ab[t - 1] * variance / (1 - ab[t] / ab[t - 1])
                ).log(),
                "alpha_bar is alpha² already; yours takes a root of both, and 1 - alpha is no variance": (
                    ab[t].sqrt() * variance / (1 - ab[t].sqrt())
                ).log(),
                "s² is the variance; yours squares it again": (snr[t] * variance**2).log(),
                "take the logarithm": snr[t] * variance,
                "the natural logarithm, not decibels": 10 * want / torch.tensor(10.0, dtype=dtype).log(),
                "the natural logarithm, not base ten": want / torch.tensor(10.0, dtype=dtype).log(),
                "the ratio is upside down: signal above the line": (variance * (1 - ab[t]) / ab[t]).log(),
                "a variance that is twice as large adds ln 2; yours takes it off": (snr[t] / variance).log(),
                "t is off by one: alpha_bar[t] is already the right entry": (snr[t + 1] * variance).log(),
                "one mean for all numbers; yours takes off a mean for each channel": (snr[t] * by_channel).log(),
                "one mean for all numbers; yours takes off a mean for each pixel": (snr[t] * by_pixel).log(),
                "one variance for all images; yours averages that of each": (
                    snr[t] * x_0.flatten(1).var(1, unbiased=False).mean()
                ).log(),
                "all images count; yours looks at the first alone": (snr[t] * x_0[0].var(unbiased=False)).log(),
                "the logarithm of a product is the sum of the logarithms: ln s², not s²": snr[t].log() + variance,
                "s² is a mean of squares, not a sum": (snr[t] * variance * n).log(),
                "s² is a mean of squares, not of sizes": (snr[t] * (x_0 - x_0.mean()).abs().mean()).log(),
                "s² is a variance, not half the range squared": (snr[t] * ((x_0.max() - x_0.min()) / 2) ** 2).log(),
                "the mean is taken off, not the median": (snr[t] * (x_0 - x_0.median()).square().mean()).log(),
                "the natural logarithm, not base two": want / torch.tensor(2.0, dtype=dtype).log(),
                "that is the signal's share of x_t; the SNR has the noise alone below the line": (
                    ab[t] * variance / (ab[t] * variance + 1 - ab[t])
                ).log(),
                "alpha_bar is the product of all steps already: no further `cumprod`": (
                    ab.cumprod(0)[t] * variance / (1 - ab.cumprod(0)[t])
                ).log(),
                "one number for each t, in the order of t: yours are sorted": (snr[t.sort().values] * variance).log(),
            },
            shape_hint="one number for each t",
        )


def _radial(power: Tensor, ring: Tensor, total: bool = False) -> Tensor:
    """Mean (or sum) of a power (side, side) over rings 0 … side // 2."""
    rings = [power[ring == r] for r in range(power.shape[-1] // 2 + 1)]
    return torch.stack([p.sum() if total else p.mean() for p in rings])


_LENGTH = "one number for each ring 0, 1, …, side // 2: the corners beyond are left out"


@exercise("08.radial_power", "The power spectrum")
def _(answer: Answer, draw: Draw) -> None:
    for n, side, dtype in [
        (4, 8, torch.float64),
        (3, 12, torch.float32),
        (1, 6, torch.float64),
        (5, 10, torch.float64),
        (2, 7, torch.float64),
    ]:
        x = draw.normal(n, side, side, dtype=dtype)
        x = x + 0.7 * x.roll(1, -1) + draw.normal(1, side, side, dtype=dtype) + 0.6  # no white noise, and no mean of 0
        k = torch.fft.fftfreq(side, dtype=torch.float64) * side
        distance = (k[:, None] ** 2 + k**2).sqrt()
        ring, square_ring = distance.round(), torch.maximum(k[:, None].abs(), k.abs())
        wrapped = (torch.arange(side)[:, None] ** 2 + torch.arange(side) ** 2).sqrt().round()
        waves = torch.fft.fft2(x, norm="ortho")
        power = waves.abs().square().mean(0)
        want = _radial(power, ring)
        got = answer(x)
        if isinstance(got, Tensor) and got.shape == want.shape and not got[2:].nan_to_num().any():
            raise Wrong(
                "the spectrum has waves in rings 0 and 1 alone",
                "`fftfreq(side)` counts waves per *pixel*, and all are below 1: times side, they count per picture",
            )
        expect(
            got,
            want,
            what="the spectrum",
            mistakes={
                'without norm="ortho" the power grows with the number of pixels': want * side**2,
                'norm="forward" divides by the number of pixels; "ortho" by its root': want / side**2,
                "the power is the square of the size, |x̂(k)|²": _radial(waves.abs().mean(0), ring),
                "square first, then average over the images": _radial(waves.abs().mean(0) ** 2, ring),
                "square first, then average: that is the power of the average image": _radial(
                    waves.mean(0).abs().square(), ring
                ),
                "the mean over a ring, not its sum: outer rings have more waves": _radial(power, ring, total=True),
                "the mean over the images, not their sum": want * n if n > 1 else want + float("nan"),
                "the second half of fftfreq is negative: a frequency of side - 1 is -1": _radial(power, wrapped),
                "round the frequency, do not cut it off": _radial(power, distance.floor()),
                "a wave has a real and an imaginary part: |x̂|² is the sum of both squares": _radial(
                    waves.real.square().mean(0), ring
                ),
                "round the frequency to the nearest, do not round it up": _radial(power, distance.ceil()),
                "frequencies are counted in periods across the picture: no 2 pi": _radial(
                    power, (2 * torch.pi * distance / side).round()
                ),
                "ring 0 is the mean brightness: take nothing off": _radial(power * (distance > 0), ring),
                "the images as they are: take no average picture off": _radial(
                    torch.fft.fft2(x - x.mean(0), norm="ortho").abs().square().mean(0), ring
                )
                if n > 1
                else want + float("nan"),
                "transform both axes: `fft2`, not `fft`": _radial(
                    torch.fft.fft(x, norm="ortho").abs().square().mean(0), ring
                ),
                "average over the images; yours has the first alone": _radial(waves[0].abs().square(), ring)
                if n > 1
                else want + float("nan"),
                "average over the images, take no median": _radial(waves.abs().square().median(0).values, ring)
                if n > 1
                else want + float("nan"),
                "the power is a mean square: a variance takes the average image off": _radial(waves.var(0), ring)
                if n > 1
                else want + float("nan"),
                "the frequency has both directions: yours looks at one axis alone": _radial(
                    power, k[:, None].abs().expand(side, side)
                ),
                "the frequency is the root of k1² + k2², not the larger of the two": _radial(power, square_ring),
                "the frequency is the root of k1² + k2², not the sum of their sizes": _radial(
                    power, k[:, None].abs() + k.abs()
                ),
                "that is the root of the power: square once more": want.sqrt(),
                "that is the logarithm of the power": want.log(),
                "that is the power in decibels: no logarithm here": 10 * want.log10(),
                "the grid is shifted and the power is not (fftshift both, or neither)": _radial(
                    torch.fft.fftshift(power), ring
                ),
            },
            shape_hint=_LENGTH,
        )


_MEAN = "mean and power are (h, w) and fit the last two dimensions of x_t as they are"


@exercise("08.wiener", "The Wiener filter", error_hints={"must match": _MEAN, "size of tensor": _MEAN})
def _(answer: Answer, draw: Draw) -> None:
    for n, h, w, dtype in [(4, 8, 8, torch.float64), (3, 6, 10, torch.float64), (1, 8, 8, torch.float32)]:
        x_t, mean = draw.normal(n, h, w, dtype=dtype), draw.normal(h, w, dtype=dtype)
        # the spectrum of real images: the same at k and at -k
        power = torch.fft.fft2(draw.normal(5, h, w, dtype=dtype), norm="ortho").abs().square().mean(0)
        k1, k2 = torch.fft.fftfreq(h) * h, torch.fft.fftfreq(w) * w
        power = power * torch.where(k1[:, None] ** 2 + k2**2 < 5, 5.0, 0.1).to(dtype)  # waves that stand out, and not
        alpha = draw.number(0.65, 0.9)
        sigma = (1 - alpha**2) ** 0.5 if n > 1 else draw.number(0.5, 1.5)  # any schedule's
        gain = alpha * power / (alpha**2 * power + sigma**2)

        def by(gain: Tensor, before: Any = alpha * mean, after: Any = mean, x_t: Tensor = x_t) -> Tensor:
            waves = torch.fft.fft2(x_t - before, norm="ortho")
            return after + torch.fft.ifft2(gain * waves, norm="ortho").real

        want = by(gain)
        got = answer(x_t, mean, power, alpha, sigma)
        if isinstance(got, Tensor) and got.is_complex():
            raise Wrong("x0_hat should be real, got complex numbers", "take `.real` of what `ifft2` returns")
        total = alpha**2 * power + sigma**2
        expect(
            got,
            want,
            what="x0_hat",
            mistakes={
                "in x_t the average picture is alpha times itself: take off alpha * mean": by(gain, before=mean),
                "alpha and sigma are swapped": by(sigma * power / (sigma**2 * power + alpha**2)),
                "put the average picture back at the end": by(gain, after=0),
                "at the end put all of the average picture back, not alpha times it": by(gain, after=alpha * mean),
                "the average picture is no signal: take alpha times it off, and put it back at the end": by(
                    gain, before=0, after=0
                ),
                "take alpha times the average picture off before you filter": by(gain, before=0),
                "w has alpha P above the line; yours lacks alpha": by(power / total),
                "w has alpha P above the line; with alpha² P you get alpha x_0": by(alpha**2 * power / total),
                "below the line stands the power of x_t, alpha² P + sigma²; yours has P + sigma²": by(
                    alpha * power / (power + sigma**2)
                ),
                "the variance of the noise is sigma²; yours has sigma": by(alpha * power / (alpha**2 * power + sigma)),
                "power is a variance already; yours takes its root": by(
                    alpha * power.sqrt() / (alpha**2 * power.sqrt() + sigma**2)
                ),
                "power is a variance already; yours squares it": by(
                    alpha * power**2 / (alpha**2 * power**2 + sigma**2)
                ),
                "that filter lets the noise through: sigma² P is the error, alpha P the signal": by(sigma**2 / total),
                "(8.5) weighs each wave; yours keeps it, divided by alpha, or drops it": by(
                    (alpha**2 * power > sigma**2).to(dtype) / alpha
                ),
                "(8.5) weighs each wave; yours keeps it or drops it": by((alpha**2 * power > sigma**2).to(dtype)),
                "that weighs pixels: w belongs to waves, so transform x_t first": mean + gain * (x_t - alpha * mean),
                "power is in the order that `fft2` returns: no fftshift": by(torch.fft.fftshift(gain)),
                "the error of a wave is not its weight": by(sigma**2 * power / total),
                "(8.5) weighs each wave; yours divides all by alpha": by(torch.full_like(power, 1 / alpha)),
                "alpha times the average picture is taken off, not added": by(gain, before=-alpha * mean),
                "the average picture is put back, not taken off once more": by(gain, after=-mean),
                "w has P, not alpha P, where alpha is 1 alone": by(power / (power + sigma**2)),
                "below the line alpha is squared": by(alpha * power / (alpha * power + sigma**2)),
                "w is no root": by(gain.sqrt()),
                '`norm="ortho"` goes there and back, or in neither': mean
                + torch.fft.ifft2(gain * torch.fft.fft2(x_t - alpha * mean, norm="ortho")).real,
                "the way back is `ifft2`: `fft2` twice turns the picture round": mean
                + torch.fft.fft2(gain * torch.fft.fft2(x_t - alpha * mean, norm="ortho"), norm="ortho").real,
                "take `.real` of what `ifft2` returns; `.abs()` loses the sign": mean
                + torch.fft.ifft2(gain * torch.fft.fft2(x_t - alpha * mean)).abs(),
                "w multiplies the waves themselves: their sizes alone have lost where the waves lie": mean
                + torch.fft.ifft2(gain * torch.fft.fft2(x_t - alpha * mean).abs()).real,
                "transform both axes: `fft2`, not `fft`": mean
                + torch.fft.ifft(gain * torch.fft.fft(x_t - alpha * mean)).real,
            }
            | (
                {
                    "sigma is handed over: it need not be the root of 1 - alpha²": by(
                        alpha * power / (alpha**2 * power + 1 - alpha**2)
                    )
                }
                if n == 1
                else {
                    "transform the last two dimensions: `fftn` mixes the images of the batch": mean
                    + torch.fft.ifftn(gain * torch.fft.fft2(x_t - alpha * mean, norm="ortho"), norm="ortho").real
                }
            ),
            shape_hint="x0_hat is as large as x_t",
        )


_CONDITION = "the condition must have the shape (b, 1, 1, 1): one decision for each image"


@exercise(
    "08.random_flip",
    "Half of them",
    error_hints={
        "must match": _CONDITION,
        "size of tensor": _CONDITION,
        "ambiguous": "`if u < 0.5` asks about one number; choose for all images at once with `torch.where`",
        "shape": _CONDITION,
    },
)
def _(answer: Answer, draw: Draw) -> None:
    # batches as large as the images' sides: there a condition along the wrong axis goes unnoticed
    for shape, dtype in [
        ((8, 3, 8, 8), torch.float32),
        ((6, 1, 6, 4), torch.float64),
        ((4, 3, 6, 4), torch.float32),
        ((3, 3, 5, 7), torch.float32),
        ((2, 1, 4, 4), torch.float32),
    ]:
        b = shape[0]
        x = draw.normal(*shape, dtype=dtype)
        low, high = draw.uniform(0.42, 0.49, b), draw.uniform(0.51, 1.0, b)  # so near to one half that a bound is seen
        low[::3] = 0.0
        decided = torch.cat([torch.tensor([True]), draw.distinct(0, b - 2, b - 1) < (b - 1) // 2])  # always as many
        u = torch.where(decided, low, high)
        if b > 2:
            u[decided.int().argmin()] = 0.5  # is not below one half
        chosen = (u < 0.5)[:, None, None, None]

        def pick(other: Tensor, x: Tensor = x, chosen: Tensor = chosen) -> Tensor:
            return torch.where(chosen, other, x)

        want = pick(x.flip(-1))
        mistakes = {
            "that mirrors all of them: each image has its own number in u": x.flip(-1),
            "that mirrors none of them: each image has its own number in u": x,
            "upside down: left and right are the last dimension, -1": pick(x.flip(-2)),
            "turned by half a turn: mirror the last dimension alone": pick(x.flip(-1, -2)),
            "that reverses the colours: left and right are the last dimension, -1": pick(x.flip(1)),
            "that exchanges images of the batch: mirror each within itself": pick(x.flip(0)),
            "*below* one half: an image whose number is 0.5 stays as it is": torch.where(
                (u <= 0.5)[:, None, None, None], x.flip(-1), x
            ),
            "below one half, not above: where u is larger the image stays": torch.where(
                (u > 0.5)[:, None, None, None], x.flip(-1), x
            ),
            "below one half; yours has another bound": torch.where((u < 0.4)[:, None, None, None], x.flip(-1), x),
            "u decides, not the place in the batch": torch.cat([x[: b // 2].flip(-1), x[b // 2 :]]),
            "mirrored, not moved: `flip`, not `roll`": pick(x.roll(1, -1)),
            "mirrored, and as bright as before: no minus": pick(-x),
            "each image stays in its place: only the last dimension is mirrored": pick(x.flip(0, -1)),
            "the wrong half: mirror where u is below one half": torch.where(chosen, x, x.flip(-1)),
            "u decides, it does not mix: an image is mirrored or it is not": u.to(dtype)[:, None, None, None] * x
            + (1 - u.to(dtype)[:, None, None, None]) * x.flip(-1),
            "the images stay in their places; yours come in another order": torch.cat(
                [x.flip(-1)[u < 0.5], x[u >= 0.5]]
            ),
        }
        for name, after, size in [("columns", (), shape[3]), ("rows", (1,), shape[2])]:
            if size == b:
                along = (u < 0.5).reshape(-1, *after)
                mistakes[f"that decides for {name} of pixels: {_CONDITION}"] = torch.where(along, x.flip(-1), x)
        expect(answer(x, u), want, what="the batch", mistakes=mistakes, shape_hint="as many images, as large as before")


@exercise("08.next_scale", "The scale of the next step")
def _(answer: Answer, draw: Draw) -> None:
    # The counts are always the same, so that the words are; the norms are drawn.
    scale, some, patience = 64.0, 3, 8
    fine, inf, nan = draw.number(0.1, 3.0), float("inf"), float("nan")
    huge = draw.number(1e5, 1e7)  # beyond float16's largest, and yet finite: the norm is computed in float32
    same = "the scale stays as it is while the steps are clean and N is not reached"
    halve = "an overflow halves the scale"
    again = "after an overflow the count of clean steps begins again, at 0"
    cases: list[tuple[str, tuple, tuple[float, int], dict[tuple[float, int], str]]] = [
        (
            "after a clean step",
            (scale, some, fine, patience),
            (scale, some + 1),
            {
                (scale, some): "a clean step counts: return clean + 1",
                (scale * 2, some + 1): same,
                (scale * 2, 0): same,
                (scale / 2, 0): "this norm is finite: no overflow",
                (scale, 0): "a clean step counts on: return clean + 1",
                (scale, 1): "the count goes on from `clean`: return clean + 1",
            },
        ),
        (
            "after an infinite norm",
            (scale, some, inf, patience),
            (scale / 2, 0),
            {
                (scale / 2, some): again,
                (scale / 2, some + 1): again,
                (scale / 2, 1): "the step that overflows is not clean: the count begins again at 0, not at 1",
                (scale / 2, some - 1): again,
                (scale, some): halve,
                (scale, some + 1): halve,
                (scale, 0): halve,
                (scale / 10, 0): "half of it, not a tenth",
                (scale - 2, 0): "divided by two, not less two",
                (scale * 2, 0): "an overflow means that the scale is too large: halve it, not double it",
            },
        ),
        (
            "after a norm that is NaN",
            (scale, some, nan, patience),
            (scale / 2, 0),
            {(scale, some + 1): "NaN is an overflow, too (inf - inf), and compares as false with everything"},
        ),
        (
            "at the N-th clean step in a row",
            (scale, patience - 1, fine, patience),
            (scale * 2, 0),
            {
                (scale, patience): "this step counts, too: with it `clean + 1` is N, and the scale doubles now",
                (scale * 2, patience): "after the doubling the count begins again, at 0",
                (scale * 2, 1): "after the doubling the count begins again, at 0",
                (scale, 0): "after N clean steps the scale doubles",
                (scale + 2, 0): "times two, not plus two",
                (scale * 10, 0): "times two, not times ten",
                (scale**2, 0): "times two: the scale is doubled, not squared",
            },
        ),
        (
            "one step before that",
            (scale, patience - 2, fine, patience),
            (scale, patience - 1),
            {(scale * 2, 0): "too early by one: the scale doubles when `clean + 1` is N"},
        ),
        (
            "when the N-th step overflows",
            (scale, patience - 1, inf, patience),
            (scale / 2, 0),
            {(scale * 2, 0): "look for an overflow first: this step was not clean"},
        ),
        (
            "after a norm that is large and finite",
            (scale, some, huge, patience),
            (scale, some + 1),
            {(scale / 2, 0): "large is no overflow: only infinity and NaN are"},
        ),
        (
            "at a scale of 1, after an infinite norm",
            (1.0, some, inf, patience),
            (0.5, 0),
            {
                (0, 0): "a scale may be less than 1: divide with `/`; `//` cuts 0.5 down to 0",
                (1, 0): "a scale may be less than 1: nothing holds it at 1",
            },
        ),
        (
            "at a tiny scale, after an infinite norm",
            (2.0**-30, some, inf, patience),
            (2.0**-31, 0),
            {},  # whatever else it returns: see `held` below
        ),
        (
            "after a norm of 0",
            (scale, some, 0.0, patience),
            (scale, some + 1),
            {(scale / 2, 0): "0 is finite: a step without a gradient is no overflow"},
        ),
        (
            "at a large scale, at the N-th clean step",
            (2.0**40, patience - 1, fine, patience),
            (2.0**41, 0),
            {},
        ),
        (
            "at the first clean step, where N is 1",
            (scale, 0, fine, 1),
            (scale * 2, 0),
            {(scale, 1): "with N = 1 every clean step is the N-th: `clean + 1` is N"},
        ),
    ]
    for when, args, want, mistakes in cases:
        got = answer(*args)
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong("it should return two things, (scale, clean)", "`return scale, clean + 1` returns both")
        pair = tuple(numbers(list(got), "each of the two").tolist())
        if pair == want:
            continue
        held = "no smallest and no largest scale was asked for" if not mistakes and pair[1] == want[1] else ""
        hint = held or mistakes.get(pair) or ("the scale comes first, then the count" if pair == want[::-1] else "")
        raise Wrong(
            f"{when} it returns {pair[0]:g} and {pair[1]:g}, not {want[0]:g} and {want[1]}",
            hint or "three cases: overflow, the N-th clean step, any other clean step",
        )
