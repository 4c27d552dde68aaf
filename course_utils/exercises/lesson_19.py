"""Checks of lesson 19, other modalities."""

from typing import Any

import torch
from torch import Tensor

from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import Draw, expect
from course_utils.exercises.engine import exercise

_PER_ROW = "one number for each text, and a text is a row: `keep[:, None]` stands before its letters"
_ROWS = {"The size of tensor": _PER_ROW, "must match": _PER_ROW}
_WHOLE = "tokens are whole numbers, MASK too: `torch.where(condition, mask, x_0)` keeps them so"


def _whole(got: Any) -> Any:
    if isinstance(got, Tensor) and got.is_floating_point():
        raise Wrong("the tokens should be whole numbers", _WHOLE)
    return got


@exercise("19.hide", "Hidden letters", error_hints={**_ROWS, "ambiguous": "`torch.where` chooses for each letter"})
def _(answer: Answer, draw: Draw) -> None:
    for b, n, V in [(4, 4, 5), (3, 7, 2), (1, 5, 9), (6, 1, 3)]:
        x_0 = draw.integers(0, V - 1, b, n)
        keep = draw.uniform(0.3, 0.7, b, dtype=torch.float64)
        u = draw.uniform(0.0, 1.0, b, n, dtype=torch.float64)
        u[0, 0] = keep[0]  # exactly at the border: hidden, for u < keep keeps
        if n > 2:
            u[0, 1:3] = torch.tensor([0.1, 0.9])
        if b > 1:
            keep[-1], keep[-2] = 0.0, 1.0  # all hidden; all kept
            u[-1, 0] = 0.0
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
        }
        if b == n:
            wrong[f"{_PER_ROW}; yours runs along the letters"] = torch.where(u < keep, x_0, V)
        expect(_whole(answer(x_0, u, keep, V)), torch.where(there, x_0, V), what="x_t", mistakes=wrong)


@exercise("19.bound", "What a hidden letter counts", error_hints=_ROWS)
def _(answer: Answer, draw: Draw) -> None:
    for b, n, dtype in [(4, 4, torch.float64), (3, 6, torch.float32), (1, 5, torch.float64), (5, 2, torch.float32)]:
        log_p = -draw.uniform(0.1, 3.0, b, n, dtype=dtype)
        hidden = draw.uniform(0.0, 1.0, b, n) < 0.5
        hidden[0], hidden[0, 0] = False, b == 1  # nothing hidden counts nothing
        hidden[-1] = True
        alpha = draw.uniform(0.2, 0.8, b, dtype=dtype)
        slope = -draw.uniform(0.6, 1.9, b, dtype=dtype)
        cost = -torch.where(hidden, log_p, 0.0).sum(1)
        weight = -slope / (1 - alpha)
        m = hidden.sum(1).clamp(min=1)
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
            },
            shape_hint="one number for each text: `.sum(1)`",
        )


@exercise("19.unmask", "One step back", error_hints={**_ROWS, "ambiguous": "`torch.where` chooses for each letter"})
def _(answer: Answer, draw: Draw) -> None:
    for i, (b, n, V) in enumerate([(4, 7, 5), (3, 8, 3), (1, 7, 9), (7, 7, 4)]):
        drawn = draw.integers(0, V - 1, b, n)
        x_t = draw.integers(0, V - 1, b, n)
        x_t = torch.where(x_t == drawn, (x_t + 1) % V, x_t)  # so that a known letter which is overwritten is seen
        hidden = draw.uniform(0.0, 1.0, b, n) < 0.6
        hidden[0, :7] = torch.tensor([True] * 6 + [False])
        x_t = torch.where(hidden, V, x_t)
        a_t, a_s = [(0.3, 0.5), (0.0, 0.25), (0.5, 1.0), (0.2, 0.6)][i]
        r = (a_s - a_t) / (1 - a_t)
        u = draw.uniform(0.0, 1.0, b, n, dtype=torch.float64)
        # between the chances of the first case, 0.2, 0.29, 0.4, 0.5, 0.71: right or a slip's
        u[0, :7] = torch.tensor([0.24, 0.34, 0.45, 0.6, 0.0, 0.9, 0.0], dtype=torch.float64)

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
            what="the cents",
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
                "twelve semitones of 100 cents are an octave: 1,200, not 100": 100 * ratio.log2(),
            },
            shape_hint="one number for each note",
        )


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
        expect(
            answer(real, imag, magnitude),
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
            },
            shape_hint="two numbers for each entry, side by side in a last dimension: `torch.stack([…, …], -1)`",
        )


@exercise(
    "19.over_time",
    "Through time, place by place",
    error_hints={
        "invalid for input of size": "b is `len(h) // frames`; the sizes of the new shape must multiply to those of h",
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
            what="the lines",
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
                "that is the attention within a frame: a line for each frame, running over places": five.flatten(0, 1)
                .flatten(2)
                .mT,
                "attention runs over the last but one axis: (…, frames, c), channels last": want.mT,
            },
            shape_hint="a line for each place of each clip: (b · height · width, frames, c)",
        )
