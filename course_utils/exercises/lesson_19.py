"""Checks of lesson 19, other modalities."""

import math
from typing import Any

import torch
from torch import Tensor

from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import Draw, expect
from course_utils.exercises.engine import exercise

_PER_ROW = "one number for each text, and a text is a row: `keep[:, None]` stands before its letters"
_ROWS = {"The size of tensor": _PER_ROW, "must match": _PER_ROW}
_CHOOSES = '`torch.where` chooses for each letter; for tensors "and" is `&`, with brackets: `(…) & (…)`'
_BINDS = "`&` binds before `==` and `<`: `(x_t == mask) & (u < chance)`, each with brackets of its own"
_WHOLE = "tokens are whole numbers, MASK too: `torch.where(condition, mask, x_0)` keeps them so"


def _whole(got: Any) -> Any:
    if isinstance(got, Tensor) and got.is_floating_point():
        raise Wrong("the tokens should be whole numbers", _WHOLE)
    if isinstance(got, Tensor) and got.dtype == torch.bool:
        raise Wrong(
            "tokens are wanted, got true and false", "the condition goes into `torch.where`, before this and that"
        )
    return got


@exercise("19.hide", "Hidden letters", error_hints={**_ROWS, "ambiguous": _CHOOSES})
def _(answer: Answer, draw: Draw) -> None:
    for b, n, V in [(4, 4, 5), (3, 7, 2), (1, 5, 9), (6, 1, 3)]:
        x_0 = draw.integers(0, V - 1, b, n)
        keep = draw.uniform(0.3, 0.7, b, dtype=torch.float64)
        u = draw.uniform(0.0, 1.0, b, n, dtype=torch.float64)
        keep[0] = 0.6
        u[0, 0] = keep[0]  # exactly at the border: hidden, for u < keep keeps
        if n > 2:
            u[0, 1:3] = torch.tensor([0.1, 0.9])
        if b > 1:
            keep[-1], keep[-2] = 0.0, 1.0  # all hidden; all kept
            u[-1, 0] = 0.0
            u[1, -1] = 0.59  # just below the first text's keep: whoever takes it for all, and not 0.5, keeps this
        there = u < keep[:, None]
        wrong = {
            "a letter is kept with probability `keep`: where u < keep; yours hides those, and keeps the others": (
                torch.where(there, V, x_0)
            ),
            "u < keep keeps, not <=: with keep = 0 nothing is left, even where u is 0": torch.where(
                u <= keep[:, None], x_0, V
            ),
            "MASK is a number of its own, V; 0 is a letter, and the network could not tell them apart": torch.where(
                there, x_0, 0
            ),
            "MASK is the number after the last letter, V; V - 1 is a letter": torch.where(there, x_0, V - 1),
            "MASK is the number `mask`, not -1: it must have a row in the table of embeddings": torch.where(
                there, x_0, -1
            ),
            "each letter has a `u` of its own; yours hides whole texts": torch.where(there[:, :1], x_0, V),
            "nothing is hidden": x_0,
            "everything is hidden; what has u < keep is still there": torch.full_like(x_0, V),
            "u < keep keeps; yours keeps where u > keep": torch.where(u > keep[:, None], x_0, V),
            "`keep` is alpha itself, the probability to be kept, not to be hidden: compare with keep, not 1 - keep": (
                torch.where(u < 1 - keep[:, None], x_0, V)
            ),
            "below `keep` is u itself, not 1 - u": torch.where(1 - u < keep[:, None], x_0, V),
            "MASK is the number `mask` itself: it is the one after the last letter already": torch.where(
                there, x_0, V + 1
            ),
            "MASK takes the letter's place; yours is added to the letters": x_0 * there + V,
            "the chance to be kept is alpha itself here; no root belongs to it, as it did with Gaussian noise": (
                torch.where(u < keep.sqrt()[:, None], x_0, V)
            ),
        }
        if b == n:
            wrong["each text has a `keep` of its own; yours takes the first text's for all"] = torch.where(
                u < keep[0], x_0, V
            )
            wrong[f"{_PER_ROW}; yours runs along the letters"] = torch.where(u < keep, x_0, V)
        expect(
            _whole(answer(x_0, u, keep, V)),
            torch.where(there, x_0, V),
            what="x_t",
            mistakes=wrong,
            shape_hint="a text stays as long as it is: MASK stands where the letter was",
        )


_BOUND_CASES = [(4, 4, torch.float64), (3, 6, torch.float32), (1, 5, torch.float64), (5, 2, torch.float32)]


@exercise("19.bound", "What a hidden letter counts", error_hints=_ROWS)
def _(answer: Answer, draw: Draw) -> None:
    for i, (b, n, dtype) in enumerate(_BOUND_CASES):
        log_p = -draw.uniform(0.1, 3.0, b, n, dtype=dtype)
        hidden = draw.uniform(0.0, 1.0, b, n) < 0.5
        hidden[:, 0], hidden[:, -1] = True, False
        if i:  # not at first, where a mean over the hidden shall be told, and not its division by zero
            hidden[0], hidden[0, 0] = False, b == 1  # nothing hidden counts nothing
        hidden[-1] = True
        alpha = draw.uniform(0.2, 0.8, b, dtype=dtype)
        slope = -draw.uniform(0.6, 1.9, b, dtype=dtype)
        cost = -torch.where(hidden, log_p, 0.0).sum(1)
        weight = -slope / (1 - alpha)
        m = hidden.sum(1).clamp(min=1)
        texts = (log_p * hidden).sum(0) if b == n else cost
        expect(
            answer(log_p, hidden, alpha, slope),
            weight * cost,
            what="the term of the bound",
            mistakes={
                "alpha falls, so its slope is negative, and a cost is positive: the sign": -weight * cost,
                "only what is hidden counts: what is seen is known": weight * -log_p.sum(1),
                "it is the visible letters that you count": weight * -torch.where(hidden, 0.0, log_p).sum(1),
                "the weight divides by 1 - alpha, the share that is hidden; yours by alpha": -slope / alpha * cost,
                "the weight is missing: a time at which few letters are hidden stands for many": cost,
                "-alpha' belongs in the weight as well": cost / (1 - alpha),
                "1 - alpha divides": -slope * cost,
                "the letters of a text are summed: its log-probability is a sum": weight * cost / m,
                "the sum is over the letters of a text, the mean over texts comes later": weight * cost / n,
                "the weight multiplies by 1 - alpha; it divides": -slope * (1 - alpha) * cost,
                "brackets: -slope / (1 - alpha); `-slope / 1 - alpha` subtracts alpha in the end": (-slope - alpha)
                * cost,
                "1 - alpha is the share that is hidden on average; yours is the share that happened to be": (
                    -slope * cost * n / m
                ),
                "log_p are logarithms already, and minus them is the cost; yours takes the probabilities": weight
                * (log_p.exp() * hidden).sum(1),
                "what is hidden counts minus its log-probability; yours counts how many are hidden": weight
                * hidden.sum(1),
                "one sum for each text; `log_p[hidden]` puts the letters of all texts into one": weight * cost.sum(),
                "`.sum(1)` sums a text's letters; yours sums over texts": -weight * texts,
                "brackets: -slope / (1 - alpha), since `/` and `*` come before `-`": -slope - alpha * cost,
            },
            shape_hint="one number for each text: `.sum(1)`",
        )


@exercise("19.unmask", "One step back", error_hints={**_ROWS, "ambiguous": _CHOOSES, "bitwise_and": _BINDS})
def _(answer: Answer, draw: Draw) -> None:
    for i, (b, n, V) in enumerate([(4, 12, 5), (3, 12, 3), (1, 12, 9), (12, 12, 4)]):
        drawn = draw.integers(0, V - 1, b, n)
        x_t = draw.integers(0, V - 1, b, n)
        x_t = torch.where(x_t == drawn, (x_t + 1) % V, x_t)  # so that a known letter which is overwritten is seen
        hidden = draw.uniform(0.0, 1.0, b, n) < 0.6
        hidden[0] = torch.tensor([True] * 11 + [False])
        x_t = torch.where(hidden, V, x_t)
        a_t, a_s = [(0.2, 0.55), (0.0, 0.25), (0.5, 1.0), (0.25, 0.6)][i]
        r = (a_s - a_t) / (1 - a_t)
        u = draw.uniform(0.0, 1.0, b, n, dtype=torch.float64)
        # between the chances of the first case, 0.4375 or a slip's: 0.2, 0.3, 0.35, 0.364, 0.45, 0.55, 0.5625, 0.64 …
        border = [0.1, 0.25, 0.32, 0.357, 0.4, 0.444, 0.5, 0.556, 0.6, 0.7, 0.85, 0.0]  # 0.25: the second's, exactly
        u[0] = torch.tensor(border, dtype=torch.float64)

        def step(
            chance: float, x_t: Tensor = x_t, drawn: Tensor = drawn, u: Tensor = u, hidden: Tensor = hidden
        ) -> Tensor:
            return torch.where(hidden & (u < chance), drawn, x_t)

        expect(
            _whole(answer(x_t, drawn, u, a_t, a_s, V)),
            step(r),
            what="x_s",
            mistakes={
                "what is known stays: only where x_t is MASK may something be put in": torch.where(u < r, drawn, x_t),
                "that reveals every hidden letter at once; some stay hidden until later": torch.where(
                    hidden, drawn, x_t
                ),
                "given that a letter is still hidden at t: divide by 1 - alpha_t": step(a_s - a_t),
                "alpha_s alone is the share that is to be there in the end; part of it is there already": step(a_s),
                "that is the chance to stay hidden, (1 - alpha_s) / (1 - alpha_t); you reveal with it": step(1 - r),
                "1 - alpha_t divides, the share that is hidden at t; yours is 1 - alpha_s": (
                    step((a_s - a_t) / (1 - a_s)) if a_s < 1 else step(2.0)
                ),
                "revealed where u < chance; yours where it is not": torch.where(hidden & (u >= r), drawn, x_t),
                "nothing is revealed": x_t,
                "drawn letters go in where u < chance, and MASK stays elsewhere; yours is the drawn text": drawn,
                "what is not revealed stays as it is in x_t; yours forgets the known letters": torch.where(
                    hidden & (u < r), drawn, V
                ),
                "u < chance reveals, not <=": torch.where(hidden & (u <= r), drawn, x_t),
                "brackets: (alpha_s - alpha_t) / (1 - alpha_t); without them only alpha_t is divided": step(
                    a_s - a_t / (1 - a_t)
                ),
                "1 - alpha_t divides, the share that is hidden at t; yours is alpha_s": step((a_s - a_t) / a_s),
                "1 - alpha_s is the share that is still hidden at s": step(1 - a_s),
                "alpha_t is what is there at t already; the step's share is alpha_s - alpha_t": step(a_t),
                "alpha_t / alpha_s is no chance of (19.3)": step(a_t / a_s),
                "each letter has a `u` of its own; yours reveals whole texts": torch.where(
                    hidden & (u[:, :1] < r), drawn, x_t
                ),
                "MASK is the number `mask`; 0 is a letter": torch.where((x_t == 0) & (u < r), drawn, x_t),
                "only MASK may be replaced: `x_t == mask`; yours replaces what is known": torch.where(
                    ~hidden & (u < r), drawn, x_t
                ),
                "both must hold, a blank and u < chance: `&`; yours takes either": torch.where(
                    hidden | (u < r), drawn, x_t
                ),
                "what is known stays, and is hidden no more: only blanks change": torch.where(
                    hidden, step(r), torch.where(u < r, x_t, V)
                ),
                "known letters are overwritten, or lost: what is no blank stays as it is in x_t": torch.where(
                    u < r, drawn, V
                ),
                "`torch.where(condition, this, that)`: this where it is true; yours are turned round": torch.where(
                    hidden & (u < r), x_t, drawn
                ),
            },
        )


@exercise("19.cents", "In tune?")
def _(answer: Answer, draw: Draw) -> None:
    for n, dtype in [(6, torch.float64), (9, torch.float32), (1, torch.float64)]:
        wanted = draw.uniform(300.0, 900.0, n, dtype=dtype)
        off = draw.uniform(-90.0, 90.0, n, dtype=torch.float64)
        off[0] = 1200.0 if n > 1 else -37.0  # an octave too high
        if n > 2:
            off[1:3] = torch.tensor([0.0, -1200.0])
        frequency = (wanted.double() * 2 ** (off / 1200)).to(dtype)
        ratio = frequency / wanted
        expect(
            answer(frequency, wanted),
            1200 * ratio.log2(),
            what="the number of cents",
            mistakes={
                "a note that is too high is off by a positive number: the frequency over the one wanted": (
                    -1200 * ratio.log2()
                ),
                "an octave is a factor of 2 and 1,200 cents, so the logarithm is that of base 2": 1200 * ratio.log(),
                "the logarithm is that of base 2, not 10": 1200 * ratio.log10(),
                "those are semitones; a cent is a hundredth of one": 12 * ratio.log2(),
                "those are octaves, of which each has 1,200 cents": ratio.log2(),
                "the ear hears ratios, so it is a logarithm, not the difference in per cent": 1200 * (ratio - 1),
                "the sign is wanted too: too low is negative": 1200 * ratio.log2().abs(),
                "that is the difference in Hz, which means another thing for each note": frequency - wanted,
                "the logarithm of base 2 is log / log(2): log(2) divides": 1200 * ratio.log() * math.log(2),
                "per cent are not cents: the ear hears ratios, so it is a logarithm": 100 * (ratio - 1),
                "the ratio itself is no interval yet: its logarithm is, and 0 cents are the same frequency": 1200
                * ratio,
                "log2(f / wanted) is the difference of the logarithms, not their quotient": (
                    1200 * frequency.log2() / wanted.log2()
                ),
                "off from what? From `wanted`, each note its own": 1200 * frequency.log2(),
                "off from `wanted`, each note its own, and not from 440 Hz": 1200 * (frequency / 440).log2(),
                "that is the distance in Hz, which means another thing for each note": (frequency - wanted).abs(),
                "that is a difference in Hz, turned round: a ratio, the frequency over the one wanted": wanted
                - frequency,
                "an octave off is 1,200 cents off, not 0": (1200 * ratio.log2() + 600) % 1200 - 600,
                "cents need not be whole: no rounding": (1200 * ratio.log2()).round(),
                "twelve semitones of 100 cents are an octave: 1,200, not 100": 100 * ratio.log2(),
            },
            shape_hint="one number for each note: the logarithm of its own ratio",
        )


def _two_real(got: Any) -> Any:
    if isinstance(got, Tensor) and got.is_complex():
        raise Wrong("the spectrum should be real numbers, got complex ones", "`torch.view_as_real` makes two of each")
    return got


@exercise(
    "19.keep_phase",
    "Keep the phase",
    error_hints={
        "The size of tensor": "real, imag and magnitude have one shape; `torch.stack([…], -1)` puts two side by side"
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for b, f, n, dtype in [(2, 5, 3, torch.float64), (1, 4, 4, torch.float32), (3, 2, 6, torch.float64)]:
        size = draw.uniform(0.3, 2.0, b, f, n, dtype=dtype)
        angle = draw.uniform(-3.1, 3.1, b, f, n, dtype=dtype)
        angle[0, 0, 0], angle[0, -1, 0] = 0.0, torch.pi  # the real axis, to both sides
        real, imag = size * angle.cos(), size * angle.sin()
        magnitude = draw.uniform(0.2, 3.0, b, f, n, dtype=dtype)
        magnitude[0, 1, 1] = 0.0  # silence stays silence

        def parts(scale: Tensor, real: Tensor = real, imag: Tensor = imag) -> Tensor:
            return torch.stack([scale * real, scale * imag], -1)

        r = (real**2 + imag**2).sqrt()
        half = (imag / real).atan()
        expect(
            _two_real(answer(real, imag, magnitude)),
            parts(magnitude / r),
            what="the spectrum",
            mistakes={
                "divide by the old magnitude first: yours multiplies the new one on top of it": parts(magnitude),
                "the old magnitude is the root of real² + imag²": parts(magnitude / r**2),
                "that is the old phase with magnitude 1; the wanted magnitude is to multiply it": parts(1 / r),
                "that is the spectrum as it came: its magnitude is the old one": parts(torch.ones_like(r)),
                "that keeps the magnitude, and drops the phase": torch.stack(
                    [magnitude, torch.zeros_like(magnitude)], -1
                ),
                "real part first, then the imaginary one": parts(magnitude / r).flip(-1),
                "the phase turns the other way: the sign of the imaginary part": parts(magnitude / r)
                * torch.tensor([1, -1], dtype=dtype),
                "the old magnitude is the root of real² + imag², not the sum of the two": parts(
                    magnitude / (real.abs() + imag.abs())
                ),
                "the old magnitude divides; yours multiplies": parts(magnitude * r),
                "the wanted magnitude multiplies, and the old one divides; yours are the other way round": parts(
                    r / magnitude.clamp(min=1e-9)
                ),
                "the old magnitude is the root of real² + imag²; (real + imag)² is another number": parts(
                    magnitude / (real + imag).abs()
                ),
                "the old magnitude is the root of real² + imag², not their sum": parts(magnitude / (real + imag)),
                "plus: |X|² = real² + imag²": parts(magnitude / (real**2 - imag**2).abs().sqrt()),
                "arctan(imag / real) knows half of all angles: `torch.atan2(imag, real)` knows all": torch.stack(
                    [magnitude * half.cos(), magnitude * half.sin()], -1
                ),
                "magnitude and angle are not asked for: the real part is magnitude · cos, the imaginary one · sin": (
                    torch.stack([magnitude, torch.atan2(imag, real)], -1)
                ),
                "both parts together have the magnitude; yours gives it to each": torch.stack(
                    [magnitude * real.sign(), magnitude * imag.sign()], -1
                ),
                "each entry has a magnitude of its own: no norm over all of them": parts(magnitude / r.norm()),
                "both parts are scaled; yours leaves the imaginary one": torch.stack([magnitude / r * real, imag], -1),
                "both parts are scaled; yours leaves the real one": torch.stack([real, magnitude / r * imag], -1),
                "the wanted magnitude itself, not its square": parts(magnitude**2 / r),
                "the wanted magnitude itself, not its root": parts(magnitude.sqrt() / r),
                "the magnitude multiplies; yours is added": torch.stack([real + magnitude, imag], -1),
            },
            shape_hint="two numbers for each entry, side by side in a last dimension: `torch.stack([…, …], -1)`",
        )


@exercise(
    "19.over_time",
    "Through time, place by place",
    error_hints={
        "invalid for input of size": "b is `len(h) // frames`; the sizes of the new shape must multiply to those of h",
        "view size": "after `permute` the numbers lie elsewhere, and `view` cannot go on: `reshape` or `flatten`",
        "number of dimensions": "`permute` wants every axis once: five of them, after `unflatten`",
        "not divisible": "the first dimension is b · frames: unflatten it to (b, frames)",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for b, frames, c, height, width, dtype in [
        (2, 3, 4, 5, 6, torch.float32), (3, 3, 2, 3, 3, torch.float64), (1, 4, 3, 2, 5, torch.float32),
        (2, 1, 3, 4, 2, torch.float64),
    ]:  # fmt: skip
        h = draw.normal(b * frames, c, height, width, dtype=dtype)
        five = h.unflatten(0, (b, frames))  # (b, frames, c, height, width)
        want = five.permute(0, 3, 4, 1, 2).reshape(b * height * width, frames, c)
        expect(
            answer(h, frames),
            want,
            what="the stack of lines",
            mistakes={
                "the right shape, with numbers in the wrong places: reshape does not move axes, permute does": (
                    h.reshape(b * height * width, frames, c)
                ),
                "frames and channels have changed places: (…, frames, c)": five.permute(0, 3, 4, 2, 1).reshape(
                    b * height * width, frames, c
                ),
                "the first axis of h is clip by clip, frame after frame: unflatten to (b, frames), not (frames, b)": (
                    h.unflatten(0, (frames, b)).permute(1, 3, 4, 0, 2).reshape(b * height * width, frames, c)
                ),
                "rows before columns: (b, height, width), then frames": five.permute(0, 4, 3, 1, 2).reshape(
                    b * height * width, frames, c
                ),
                "clips come first, then their places": five.permute(3, 4, 0, 1, 2).reshape(
                    b * height * width, frames, c
                ),
                "clips come first, then their rows": five.permute(3, 0, 4, 1, 2).reshape(b * height * width, frames, c),
                "clips come first, then rows, then columns": five.permute(4, 3, 0, 1, 2).reshape(
                    b * height * width, frames, c
                ),
                "a line holds one place's frames; yours runs on through a frame's places: frames go behind them": (
                    h.permute(0, 2, 3, 1).reshape(b * height * width, frames, c)
                ),
                "frames stay in their order; yours run backwards": want.flip(1),
                "that is the attention within a frame: a line for each frame, running over places": five.flatten(0, 1)
                .flatten(2)
                .mT,
                "attention runs over the last but one axis: (…, frames, c), channels last": want.mT,
            },
            shape_hint="a line for each place of each clip: (b · height · width, frames, c)",
        )
