"""Checks of lesson 18, diffusion against GANs."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import Draw, described, expect
from course_utils.exercises.engine import exercise

KINDS = (torch.float64, torch.float32)


@exercise("18.optimal_critic", "The best critic")
def _(answer: Answer, draw: Draw) -> None:
    for shape in ((7,), (2, 3)):
        for dtype in KINDS:
            log_p, log_q = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
            p, q = log_p.exp(), log_q.exp()
            expect(
                answer(log_p, log_q),
                torch.sigmoid(log_p - log_q),
                what="D*",
                mistakes={
                    "that is the belief that x was made: D is the probability that x is real, so p stands on top": q
                    / (p + q),
                    "that is the ratio p / q; a probability is p over the sum": p / q,
                    "the arguments are logarithms: take `.exp()` first, or their difference": log_p / (log_p + log_q),
                    "that is the logit of D*, log p - log q: a sigmoid is missing": log_p - log_q,
                    "the sum below has weights 1 and 1: there is no half in D*": 2 * p / (p + q),
                    "that is log D*: D itself is asked for": -softplus(log_q - log_p),
                    "the logit is the difference of the logarithms, not of the densities": torch.sigmoid(p - q),
                    "D* compares two densities: q is missing": torch.sigmoid(log_p),
                    "a belief, not a verdict: D* lies between 0 and 1": (p > q).to(p),
                    "a probability, not a difference: p / (p + q)": p - q,
                },
            )
    far = torch.tensor([-2000.0, -1990.0, 800.0, 0.0], dtype=torch.float64)
    near = torch.tensor([-1990.0, -2000.0, 799.0, 3000.0], dtype=torch.float64)
    got = answer(far, near)
    if isinstance(got, Tensor) and not got.isfinite().all():
        raise Wrong(
            "D* has NaN in it where both densities are tiny, or huge",
            "exp(-2000) is 0 to a computer, and 0 / 0 is NaN; divide p / (p + q) by p, and only log q - log p is left: "
            "`torch.sigmoid` knows that form",
        )
    expect(got, torch.sigmoid(far - near), what="D* far away from the data")


def _pair(got: object) -> tuple[Tensor, Tensor]:
    """The critic's and the generator's losses."""
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong(f"wanted two tensors, got {described(got)}", "`return critic, generator`")
    return got[0], got[1]


_LARGE = "log(sigmoid(f)) is log 0 there; write it with `F.softplus`: -log D = softplus(-f), -log(1 - D) = softplus(f)"


@exercise("18.non_saturating", "Two losses")
def _(answer: Answer, draw: Draw) -> None:
    for dtype in KINDS:
        real, fake = 2 * draw.normal(6, dtype=dtype), 2 * draw.normal(6, dtype=dtype)
        critic, generator = _pair(answer(real, fake))
        expect(
            critic,
            softplus(-real) + softplus(fake),
            what="the critic's loss",
            mistakes={
                "the critic is rewarded for the wrong answers: -log D(x) of real x is softplus(-f)": softplus(real)
                + softplus(-fake),
                "the real points count for it in the same way as the made ones: mind the sign": softplus(real)
                + softplus(fake),
                "the critic learns from the made points, too": softplus(-real),
                "the critic learns from the real points, too": softplus(fake),
                "a loss is to be made small: that is V, which the critic makes large": -softplus(-real)
                - softplus(fake),
                "D is the sigmoid of the logit, and the loss its logarithm": (1 - real.sigmoid()) + fake.sigmoid(),
                "the sum of both, not half of it": (softplus(-real) + softplus(fake)) / 2,
                "one number a row: no mean": (softplus(-real) + softplus(fake)).mean(),
            },
            shape_hint="one number a row",
        )
        expect(
            generator,
            softplus(-fake),
            what="the generator's loss",
            mistakes={
                "that is the minimax loss, log(1 - D), whose slope vanishes; wanted -log D": -softplus(fake),
                "the generator wants its points to be believed: -log D(G(z)) = softplus(-f)": softplus(fake),
                "the generator's loss is of its own points": softplus(-real),
                "one number a row: no mean of it": softplus(-fake).mean(),
            },
            shape_hint="one number a row",
        )
    sure = torch.tensor([200.0, -200.0, 0.0])
    critic, generator = _pair(answer(sure, sure))
    for name, got in (("critic", critic), ("generator", generator)):
        if isinstance(got, Tensor) and not got.isfinite().all():
            raise Wrong(f"the {name}'s loss is infinite, or NaN, where the critic is sure", _LARGE)
    expect(critic, softplus(-sure) + softplus(sure), what="the critic's loss where it is sure")
    expect(generator, softplus(-sure), what="the generator's loss where the critic is sure")


@exercise("18.penalty", "How steep")
def _(answer: Answer, draw: Draw) -> None:
    for (b, d, k), dtype in [((6, 3, 4), torch.float64), ((4, 5, 6), torch.float32), ((1, 3, 2), torch.float64)]:
        x, W, v = draw.normal(b, d, dtype=dtype), draw.normal(k, d, dtype=dtype), draw.normal(k, dtype=dtype)
        slope = (v * (1 - (x @ W.T).tanh() ** 2)) @ W
        squared = slope.square().sum(1)
        own = torch.tanh(x @ W.T) @ v
        mistakes = {
            "the square of the length: no root": squared.sqrt(),
            "that is the gradient itself: its squared length is asked for": slope,
            "the squared length is the sum over the coordinates, not their mean": squared / d,
            "that is the critic's own answer, not how steep it is": own,
            "R1 wants the gradient to be 0; that is the penalty which wants it to be 1": (squared.sqrt() - 1) ** 2,
            "the factor of one half comes later, with the weight: |grad f|² alone": squared / 2,
            "that is the derivative by the critic's weights: differentiate by x": (
                ((v * (1 - (x @ W.T).tanh() ** 2)).square().sum(1)) * x.square().sum(1)
            ),
        }
        if b > 1:
            mistakes |= {
                "differentiate the *sum* of the answers: with their mean each row's gradient is b times too small": (
                    squared / b**2
                ),
                "one number a row: no mean over them": squared.mean(),
                "one number a row: no sum over them": squared.sum(),
            }
        expect(answer(x, W, v), squared, what="|grad f|²", mistakes=mistakes, shape_hint="one number a row")
        seen = answer._observe((x, W, v), wrt=1)
        if seen.gradient is None:
            raise Wrong(
                "no gradient of it reaches the critic's weights, which are to descend on it",
                "`torch.autograd.grad(…, create_graph=True)` keeps what the second derivative needs; no `.detach()`, "
                "no `torch.no_grad()`",
            )
        weights = W.clone().requires_grad_()
        (want,) = torch.autograd.grad(((v * (1 - (x @ weights.T).tanh() ** 2)) @ weights).square().sum(), weights)
        expect(seen.gradient, want, what="the gradient of |grad f|² by the critic's weights")


@exercise("18.relativistic", "In pairs")
def _(answer: Answer, draw: Draw) -> None:
    for dtype in KINDS:
        real, fake = 2 * draw.normal(6, dtype=dtype), 2 * draw.normal(6, dtype=dtype)
        critic, generator = _pair(answer(real, fake))
        right, other = softplus(fake - real), softplus(real - fake)
        apart = softplus(-real) + softplus(fake)
        expect(
            critic,
            right,
            what="the critic's loss",
            mistakes={
                "the critic wants the real point above the made one": other,
                "each is judged alone there; here only their difference counts": apart,
                "-log sigmoid(a) is softplus(-a): the logarithm is missing": torch.sigmoid(fake - real),
                "that is -log of it with the sign lost": -right,
                "in pairs: row i with row i, not with the mean of the others": softplus(fake - real.mean()),
                "pairs are rows: not every real point with every made one": softplus(fake[:, None] - real),
                "one number a row: no mean": right.mean(),
            },
            shape_hint="one number a row",
        )
        expect(
            generator,
            other,
            what="the generator's loss",
            mistakes={
                "the generator wants its point above the real one": right,
                "minus the critic's loss is the minimax way, whose slope vanishes": -right,
                "the generator's loss looks at the real point, too": softplus(-fake),
                "one number a row: no mean of it": other.mean(),
            },
            shape_hint="one number a row",
        )
    sure = torch.tensor([200.0, -200.0, 0.0])
    critic, generator = _pair(answer(sure, -sure))
    for name, got in (("critic", critic), ("generator", generator)):
        if isinstance(got, Tensor) and not got.isfinite().all():
            raise Wrong(f"the {name}'s loss is infinite, or NaN, where the critic is sure", _LARGE)
    expect(critic, softplus(-2 * sure), what="the critic's loss where it is sure")
    expect(generator, softplus(2 * sure), what="the generator's loss where the critic is sure")


@exercise("18.reverse_kl", "Balance")
def _(answer: Answer, draw: Draw) -> None:
    for k, lost in ((5, 0), (6, 2), (25, 24)):
        counts = draw.integers(3, 90, k)
        counts[:lost] = 0
        weights = draw.uniform(0.5, 1.5, k)
        weights = weights / weights.sum()
        q = counts / counts.sum()
        right = torch.special.xlogy(q, q / weights).sum()
        got = answer(counts, weights)
        if isinstance(got, Tensor) and got.numel() == 1 and not got.isfinite().all():
            raise Wrong(
                "it is NaN or infinite where a mode has no sample",
                "there q log q is 0: `torch.xlogy(q, q / p)` knows that, or leave such modes out; and it is q that "
                "stands in front",
            )
        mistakes = {
            "nats are asked for: the natural logarithm": right / torch.tensor(2.0).log(),
            "the sum over modes, not the mean": right / k,
            "q are shares: divide the counts by their sum": torch.special.xlogy(counts.float(), counts / weights).sum(),
            "compare with the data's weights, not with equal ones": torch.special.xlogy(q, q * k).sum(),
            "the sign: q log(q / p)": -right,
            "that is q log q alone: p is missing": torch.special.xlogy(q, q).sum(),
            "that is -q log p alone: q log q is missing": -(q * weights.log()).sum(),
        }
        if not lost:
            mistakes["that is KL(p || q), which sends q where p is; reverse is KL(q || p)"] = torch.special.xlogy(
                weights, weights / q
            ).sum()
        one = torch.as_tensor(got) if isinstance(got, int | float) else got
        value = one.float() if isinstance(one, Tensor) else one  # as counts / counts.sum() is
        expect(value, right, what="the reverse KL", mistakes=mistakes, shape_hint="one number")
