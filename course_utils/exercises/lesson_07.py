"""Checks of lesson 07, training."""

import itertools
from typing import Any

import torch
from torch import Tensor

from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import Draw, close, expect
from course_utils.exercises.engine import exercise
from course_utils.losses import loss_weight
from course_utils.schedules import DiscreteSchedule


@exercise("07.weight", "The weight of a loss")
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in [((5,), torch.float64), ((2, 3), torch.float32), ((), torch.float64), ((7,), torch.float32)]:
        alpha_bar = draw.uniform(0.02, 0.98, *shape, dtype=torch.float64)
        alpha_bar = torch.cat([alpha_bar.flatten(), torch.tensor([0.03, 0.5, 0.97]).double()])  # both sides of gamma
        schedule = DiscreteSchedule(torch.cat([torch.ones(1).double(), alpha_bar.sort(descending=True).values]))
        t = torch.arange(1, len(alpha_bar) + 1)
        snr, gamma = schedule.log_snr(t).exp().to(dtype), draw.number(2.1, 2.9) + 4 * (dtype == torch.float64)
        for kind in ("x0", "eps", "v", "min_snr"):
            right = loss_weight(t, schedule, kind, gamma=gamma).to(dtype)
            mistakes = {
                "x0": {
                    "the picture's error is what w multiplies: its weight is 1 at every t": snr,
                    "the picture's own error needs no conversion: 1 at every t, not 1 / SNR": 1 / snr,
                },
                "eps": {
                    "upside down: where there is little noise, a small error in x_0 is a large one in eps": 1 / snr,
                    "errors are squared here: alpha² / sigma², the SNR itself, and no root": snr.sqrt(),
                    "that is the weight of v": snr + 1,
                    "1 is the weight in eps's own units; Eq. (7.1) counts the error in x_0": torch.ones_like(snr),
                },
                "v": {
                    "that is the weight of eps; v asks for the picture as well, SNR + 1": snr,
                    "1 / sigma² = (alpha² + sigma²) / sigma² = SNR + 1, not 1 / SNR + 1": 1 / snr + 1,
                    "errors are squared here: 1 / sigma², not 1 / sigma": (snr + 1).sqrt(),
                    "that is the weight of the score": snr * (snr + 1),
                    "SNR + 1, not SNR / (SNR + 1)": snr / (snr + 1),
                    "SNR + 1, not SNR - 1": snr - 1,
                },
                "min_snr": {
                    "the smaller of the two: min-SNR stops growing at gamma": snr.clamp(min=gamma),
                    "that is min-SNR in units of eps; Eq. (7.1) counts the error in x_0, so do not divide by the SNR": (
                        snr.clamp(max=gamma) / snr
                    ),
                    "gamma is an argument; do not write 5 into the function": snr.clamp(max=5.0),
                    "that is the weight of eps: the ceiling gamma is missing": snr,
                    "gamma need not be a whole number": snr.clamp(max=int(gamma)),
                    "the smaller of the two for each SNR; yours is gamma throughout": torch.full_like(snr, gamma),
                    "the smaller of the two for each SNR; yours is one number for all": torch.full_like(
                        snr, min(snr.min().item(), gamma)
                    ),
                    "above gamma the weight is gamma, not 0": snr.masked_fill(snr > gamma, 0.0),
                    "that is min-SNR in units of v; Eq. (7.1) counts the error in x_0": snr.clamp(max=gamma)
                    / (snr + 1),
                    "the minimum itself: no 1 is added": snr.clamp(max=gamma) + 1,
                    "it bends at gamma, with an edge: no tanh": gamma * torch.tanh(snr / gamma),
                },
            }[kind]
            expect(
                answer(snr, kind, gamma),
                right,
                what=f"the weight of {kind}",
                mistakes=mistakes,
                shape_hint="one weight for each SNR: `torch.ones_like(snr)` where it is 1",
            )


def _decay(step: int, decay: float) -> float:
    return min(decay, (1 + step) / (10 + step))


@exercise("07.ema", "The average of the weights")
def _(answer: Answer, draw: Draw) -> None:
    average, weights, decay = draw.normal(4), draw.normal(4), draw.number(0.95, 0.99)
    early, late = (answer(average, weights, step, decay) for step in (1, 20_000))
    larger = [torch.lerp(weights, average, d) for d in (decay, 20_001 / 20_010)]
    pairs = zip((early, late), larger, strict=True)
    if all(isinstance(got, Tensor) and got.shape == want.shape and close(got, want) for got, want in pairs):
        raise Wrong("the average is not right", "the decay is the smaller of the two numbers, not the larger")
    shapes = [(4,), (2, 3), (), (3, 1, 3, 3)]
    for i, (shape, step) in enumerate(itertools.product(shapes, (6, 2, 1, 20_000, 400))):
        # At step 400 the warm-up stands at 0.978: for the larger decay it still counts, for the smaller no more.
        decay = draw.number(0.95, 0.96) if i // 5 % 2 else draw.number(0.985, 0.99)
        dtype = (torch.float32, torch.float64)[i % 2]
        average, weights = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)

        def mixed(d: float, old: Tensor = average, new: Tensor = weights) -> Tensor:
            return d * old + (1 - d) * new

        d, warm = _decay(step, decay), (1 + step) / (10 + step)
        ended = "the warm-up ends where it passes `decay`, not at a step that is always the same"
        expect(
            answer(average, weights, step, decay),
            mixed(d),
            what=f"the average at step {step}",
            mistakes={
                "old and new are swapped: d, near 1, goes with the old average": mixed(1 - d),
                **(
                    {ended: mixed(warm if d == decay else decay)}
                    if step == 400
                    else {
                        "the warm-up is missing: early on the decay is (1 + step) / (10 + step)": mixed(decay),
                        "the warm-up never ends: once it is past `decay`, `decay` counts": mixed(warm),
                    }
                ),
                "the warm-up is off by one: (1 + step) / (10 + step), where step is 1 at the first call": mixed(
                    min(decay, step / (9 + step))
                ),
                "the warm-up is (1 + step) / (10 + step), not step / (10 + step)": mixed(
                    min(decay, step / (10 + step))
                ),
                "the new weights want the factor 1 - d: the two must add up to 1": d * average + weights,
                "the old average is lost: both have their share": (1 - d) * weights,
                "that is the mean over all steps; this average forgets": mixed((step - 1) / step),
                "the warm-up is (1 + step) / (10 + step); yours has 9 + step below the line": mixed(
                    min(decay, (1 + step) / (9 + step))
                ),
                "the warm-up is off by one: step counts from 1 already, so no further 1 is added": mixed(
                    min(decay, (2 + step) / (11 + step))
                ),
                "the smaller of the two, not their product": mixed(decay * warm),
                "decay is not raised to the power of the step": mixed(decay**step),
                "Adam divides by 1 - d^k, this average does not": mixed(d) / (1 - decay**step),
                "decay is an argument; yours has 0.999 written into it": mixed(min(0.999, warm)),
                "the warm-up is (1 + step) / (10 + step): brackets below the line": mixed(
                    min(decay, (1 + step) / (1 + 10 * step))
                ),
            },
            shape_hint="the average is as large as the weights",
        )


def _length(gradients: list[Tensor]) -> float:
    return _joined(gradients).norm().item()


@exercise(
    "07.clip",
    "Clipping",
    error_hints={
        "The size of tensor": "the tensors have different shapes: add up the sums of their squares, which are numbers",
        "ZeroDivisionError": "gradients that are all zero have the length 0: shorten only what is longer than `limit`",
        "stack expects each": "the tensors have different shapes: add up the sums of their squares, which are numbers",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for shapes in ([(3,), (2, 4)], [(5,)], [(2, 3, 3, 3), (2,), ()], [(4, 4), (4, 4)]):
        gradients = [draw.normal(*shape) for shape in shapes]  # the first shorter than the second
        gradients = [g * (1 + i % 2) / _length([g]) for i, g in enumerate(gradients)]
        gradients = [3 * g / _length(gradients) for g in gradients]  # 3 long in all
        for limit in (draw.number(0.5, 0.9), draw.number(4, 6)):
            got = answer(gradients, limit)
            if not isinstance(got, list | tuple) or len(got) != len(gradients):
                raise Wrong(f"the result should be a list of {len(gradients)} tensors", "as many as came in, in order")
            factor = min(1.0, limit / 3)
            wrong = {
                "one length for all tensors together: yours shortens each by its own": [
                    g * min(1.0, limit / max(_length([g]), 1e-12)) for g in gradients
                ],
                "a gradient shorter than the limit is left as it is; yours makes it longer": [
                    g * limit / 3 for g in gradients
                ],
                "that clips each number by itself and changes the direction: scale all by one factor": [
                    g.clamp(-limit, limit) for g in gradients
                ],
                "the length is the root of the sum of squares; the root is missing": [
                    g * min(1.0, limit / 9) for g in gradients
                ],
                "the length is the root of the sum of *squares*, not the sum of absolute values": [
                    g * min(1.0, limit / sum(h.abs().sum().item() for h in gradients)) for g in gradients
                ],
                "the length is that of all tensors, not of the longest": [
                    g * min(1.0, limit / max(_length([h]) for h in gradients)) for g in gradients
                ],
                "the lengths of the tensors do not add up: their squares do": [
                    g * min(1.0, limit / sum(_length([h]) for h in gradients)) for g in gradients
                ],
                "the direction is left, the length is 1: multiply by the limit": [g / 3 for g in gradients],
                "nothing was shortened": gradients,
                "the length is that of all tensors together; yours is the first one's": [
                    g * min(1.0, limit / _length(gradients[:1])) for g in gradients
                ],
                "the length is the root of a sum of squares, not of their mean": [
                    g * min(1.0, limit / _joined(gradients).square().mean().sqrt().item()) for g in gradients
                ],
                "the length is not the largest number of all": [
                    g * min(1.0, limit / _joined(gradients).abs().max().item()) for g in gradients
                ],
                "shortened, not thrown away": [g * (limit >= 3) for g in gradients],
                "limit / length once, no square of it": [g * min(1.0, limit / 3) ** 2 for g in gradients],
            }
            right = [factor * g for g in gradients]
            if all(isinstance(g, Tensor) and g.shape == want.shape for g, want in zip(got, right, strict=True)):
                mistakes = {hint: _joined(mistake) for hint, mistake in wrong.items()}
                expect(_joined(got), _joined(right), what="the gradients", mistakes=mistakes)
            for i, (g, want) in enumerate(zip(got, right, strict=True)):
                expect(g, want, what=f"gradient {i}", shape_hint="every gradient keeps its shape")
    nothing = answer([torch.zeros(3), torch.zeros(2)], 1.0)
    if not (isinstance(nothing, list | tuple) and all(isinstance(g, Tensor) and (g == 0).all() for g in nothing)):
        raise Wrong("gradients that are all zero should stay zero", "limit / 0 is infinite, and 0 times that NaN")


def _joined(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.cat([x.flatten() for x in tensors])


_LOWER_BITS = "PyTorch's generator on a CPU takes the lower 32 bits of a seed alone"
_MIX = "mix the two numbers so that different pairs differ: np.random.SeedSequence((seed, step))"


_FACTORS = [
    *(250, 256, 365, 500, 997, 1000, 1009, 1234, 1337, 5000, 7919, 9973, 10_007, 12_345, 50_000, 65_537, 99_991),
    *(100_003, 104_729, 123_456, 123_457, 500_000, 999_983, 999_999, 1_000_003, 1_000_007, 1_234_567),
    *(10**k for k in range(4, 8)),
    *(2**k for k in range(9, 25)),
]
"""What people multiply a seed or a step by, so that the other may be added; no run has more steps than the last."""


@exercise("07.noise", "Noise that can be repeated")
def _(answer: Answer, draw: Draw) -> None:
    n, seed = 4000, int(draw.integers(2, 1000))
    x = answer(seed, 3, n)
    if not isinstance(x, Tensor) or x.shape != (n,) or not x.dtype.is_floating_point:
        expect(x, torch.zeros(n), what="the noise", shape_hint="n numbers, as one vector")
    if not torch.equal(answer(seed, 3, n), x):
        raise Wrong(
            "asked twice for the same step, it gave two answers",
            "make a generator in every call, and seed it with numbers: `hash` of a text is another in every kernel",
        )
    later, other = answer(seed, 4, n), answer(seed + 1, 3, n)
    for what, name, y in [("step", "step", later), ("run", "seed", other)]:
        if torch.equal(x, y):
            raise Wrong(
                f"every {what} gets the same noise",
                f"the {name} must have a say in the generator's seed; {_LOWER_BITS}",
            )
    if (
        abs(x.mean()) > 5 / n**0.5
        or abs(x.var() - 1) > 5 * (2 / n) ** 0.5
        or abs((x.abs() < 0.5).sum() / n - 0.383) > 0.04
    ):
        raise Wrong("these numbers are not standard normal", "`torch.randn`; `torch.rand` spreads evenly over [0, 1)")
    for what, y in [("two steps of a run", later), ("two runs", other)]:
        if abs((x * y).mean()) > 6 / n**0.5:
            raise Wrong(
                f"the noises of {what} are correlated", "no number may be used twice: seed a generator for each pair"
            )
        if torch.equal(x.abs().sort().values, y.abs().sort().values):
            raise Wrong(f"the noises of {what} are the same numbers in another order, or with other signs", _MIX)
    few = 8
    if torch.equal(answer(seed, 5, few)[1:], answer(seed, 6, few)[:-1]):
        raise Wrong(
            "step 6 repeats the noise of step 5, moved by one",
            "all that a step draws must be new: seed a generator for it",
        )
    # Formulas such as seed * m + step, seed + m * step and "seed" + "step" give one number to two of these pairs.
    pairs = [*itertools.product(range(10), range(20)), *itertools.product(range(2), range(201)), (1, 11), (11, 1)]
    pairs += [pair for m in _FACTORS for other in (0, 1) for pair in ((m, other), (other, m))]
    seen: dict[tuple[float, ...], tuple[int, int]] = {}
    for pair in dict.fromkeys(pairs):
        first = seen.setdefault(tuple(answer(*pair, few).tolist()), pair)
        if first != pair:
            (seed, step), (other_seed, other_step) = first, pair
            hint = _MIX
            if seed + step == other_seed + other_step:
                hint = "seed + step is one number for many pairs: run 1 is run 0, a step later"
            elif (first, pair) == ((0, 0), (0, 1)):
                hint = "seed * step is 0 for seed 0 at every step, and the same for 2 · 3 and 3 · 2"
            elif max(step, other_step, seed, other_seed) > 200:
                hint = f"{_MIX}; and {_LOWER_BITS}"
            said = f"seed {seed}, step {step} and seed {other_seed}, step {other_step} get the same noise"
            raise Wrong(said, hint)


LENGTH = 10  # of the runs of 07.go_on


def _run(state: dict, x: Tensor, y: Tensor, until: int, lr: float, **mistake: Any) -> dict[str, Any]:
    """What 07.go_on asks for, with each ingredient open to a mistake."""
    w = state["w"].clone()
    m = state["m"] * mistake.get("keep", 1.0)
    first = mistake.get("first", state["step"])
    for step in range(first, first + mistake.get("count", until - state["step"])):
        row = mistake.get("row", (step + mistake.get("shift", 0)) % len(x))
        row = min(step, len(x) - 1) if mistake.get("stay") else row
        gradient = mistake.get("two", 2) * (x[row] @ w - y[row]) * x[row]
        old, m = m, mistake.get("beta", 0.9) * m + mistake.get("share", 1.0) * gradient
        direction = old if mistake.get("late") else gradient + 0.9 * m if mistake.get("ahead") else m
        w = w - mistake.get("rate", lr) * direction
    return {"w": w, "m": m, "step": until}


@exercise(
    "07.go_on",
    "A run that can be stopped",
    error_hints={
        "out of bounds": "after the last row comes the first one again: row `step % len(x)`",
        "KeyError": 'the state has the entries "w", "m" and "step"',
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for rows, d, start in [(7, 3, 0), (7, 3, 4), (5, 2, 6), (12, 4, 9), (7, 3, LENGTH), (3, 2, 0)]:
        x, y = draw.normal(rows, d).double(), draw.normal(rows).double()
        state: dict[str, Any] = {
            "w": draw.normal(d).double(),
            "m": draw.normal(d).double() * (start > 0),
            "step": start,
        }
        got = answer(state, x, y, LENGTH, 0.03)
        if not isinstance(got, dict) or not {"w", "m", "step"} <= got.keys():
            raise Wrong('the result should be a state with "w", "m" and "step"', "what comes in must go out")
        expect(
            got["w"], _run(state, x, y, LENGTH, 0.03)["w"], what=_what("w", start), mistakes=_wrong_runs(state, x, y)
        )
        if got["step"] != LENGTH:
            raise Wrong(
                f"the new state says step {got['step']}, not {LENGTH}", "the next to resume would repeat these steps"
            )
        expect(
            got["m"],
            _run(state, x, y, LENGTH, 0.03)["m"],
            what=_what("m", start),
            mistakes={
                "the momentum that came in goes out again: hand on the new one": state["m"],
                "lr multiplies the momentum when the step is taken; yours is inside the momentum": _run(
                    state, x, y, LENGTH, 0.03, share=0.03, rate=1.0
                )["m"],
            },
        )


def _what(name: str, start: int) -> str:
    return f"{name} after steps {start} to {LENGTH}"


def _wrong_runs(state: dict, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    start = state["step"]
    typical: dict[str, dict[str, Any]] = {
        "the momentum begins at zero again: it is part of the state": {"keep": 0.0},
        "the data begin with the first row again: go on at the state's step": {"first": 0},
        "momentum and data both begin again; only the weights were resumed": {"keep": 0.0, "first": 0},
        "`until` counts from the beginning of the run, not from the resume": {"count": LENGTH},
        "it takes all the steps again, from the first row: begin at the state's step": {"first": 0, "count": LENGTH},
        "the rows are off by one: step 0 takes row 0": {"shift": 1},
        "one step too many": {"count": LENGTH - start + 1},
        "one step too few": {"count": max(LENGTH - start - 1, 0)},
        "the factor 2 of the square's derivative is missing": {"two": 1},
        "the sign: a step goes against the gradient": {"two": -2},
        "that is Adam's average; momentum adds the whole gradient": {"share": 0.1},
        "the momentum is missing": {"beta": 0.0},
        "lr multiplies the momentum when the step is taken; yours is inside the momentum": {"share": 0.03, "rate": 1.0},
        "lr is in it twice: in the momentum and in the step": {"share": 0.03},
        "lr is missing in the step": {"rate": 1.0},
        "lr is an argument; yours has 0.01 written into it": {"rate": 0.01},
        "the factor of the old momentum is 0.9; yours is 0.99": {"beta": 0.99},
        "first the momentum, then the step with the new one; yours steps with the old": {"late": True},
        "the step is lr times the momentum; yours looks ahead once more (Nesterov)": {"ahead": True},
        "row k mod n: after the last row the first; yours stays at the last": {"stay": True},
        "row k mod n: yours looks at row 0 every time": {"row": 0},
        "no step was taken": {"count": 0},
        "the error is squared, not averaged over the rows as well": {"two": 2 / len(x)},
    }
    return {hint: _run(state, x, y, LENGTH, 0.03, **mistake)["w"] for hint, mistake in typical.items()}
