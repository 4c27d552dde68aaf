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
                    "the log of p / q is the difference of the logarithms, not their ratio": torch.sigmoid(
                        log_p / log_q
                    ),
                    "p is divided by q: the logarithms are subtracted, not added": torch.sigmoid(log_p + log_q),
                    "below stands the sum of the densities: exp(log p) + exp(log q), not exp(log p + log q)": p
                    / (p * q),
                    "D* compares two densities: p is missing": torch.sigmoid(log_q),
                    "the sigmoid goes to the difference of the logarithms, not to a density": torch.sigmoid(p),
                    "the sigmoid goes to the difference of the logarithms, not to each": log_p.sigmoid()
                    / (log_p.sigmoid() + log_q.sigmoid()),
                    "a belief lies between 0 and 1; tanh goes down to -1": torch.tanh(log_p - log_q),
                    "each point has its own D*: no softmax over the points": (log_p - log_q).softmax(-1),
                    "f* is log p - log q, without a factor": torch.sigmoid(2 * (log_p - log_q)),
                    "f* is log p - log q, and not half of it": torch.sigmoid((log_p - log_q) / 2),
                },
                shape_hint="one D* a point: no mean, and of a softmax over p and q only p's part",
            )
    far = torch.tensor([-2000.0, -1990.0, 800.0, 0.0, 3000.0], dtype=torch.float64)
    near = torch.tensor([-1990.0, -2000.0, 799.0, 3000.0, 0.0], dtype=torch.float64)
    got = answer(far, near)
    if isinstance(got, Tensor) and not got.isfinite().all():
        raise Wrong(
            "D* has NaN in it where both densities are tiny, or huge",
            "exp(-2000) is 0 to a computer, exp(3000) infinite, and 0 / 0 is NaN, like inf / inf; divide "
            "p / (p + q) by p, and only log q - log p is left: `torch.sigmoid` knows that form",
        )
    patched = {
        f"0 / 0 replaced by {value:g} is no answer: D* is given by log p - log q there, too": (
            (far.exp() / (far.exp() + near.exp())).nan_to_num(value)
        )
        for value in (0.0, 0.5)
    }
    expect(got, torch.sigmoid(far - near), what="D* far away from the data", mistakes=patched)


def _pair(got: object) -> tuple[Tensor, Tensor]:
    """The critic's and the generator's losses."""
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong(f"wanted two tensors, got {described(got)}", "`return critic, generator`")
    return got[0], got[1]


_LARGE = "log(sigmoid(f)) is log 0 there; write it with `F.softplus`: -log D = softplus(-f), -log(1 - D) = softplus(f)"


def _bear(name: str, got: object, largest: float) -> None:
    """Wrong if a loss that should rise to `largest` overflows, or was stopped before."""
    if not isinstance(got, Tensor) or not got.numel():
        return
    if not got.isfinite().all():
        raise Wrong(f"the {name}'s loss is infinite, or NaN, where the critic is sure", _LARGE)
    if 0 < got.max() < largest / 2:
        raise Wrong(
            f"the {name}'s loss stops growing where the critic is sure, and its slope is 0 there",
            "no clamp, and nothing added in the logarithm: `F.softplus` needs neither",
        )


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
                "the made points are to be called made: -log(1 - D) is softplus(f)": softplus(-real) + softplus(-fake),
                "both are losses of the critic: they are added": softplus(-real) - softplus(fake),
                "the critic's loss comes first, then the generator's": softplus(-fake),
                "those are pairs, of section 5: here each point is judged alone": softplus(fake - real),
                "from logits to a loss it takes log sigmoid, that is softplus: the logits alone are not it": fake
                - real,
                "that is the hinge, another game: here the losses are logarithms": (1 - real).relu()
                + (1 + fake).relu(),
                "those are squares, another game: here the losses are logarithms": (real.sigmoid() - 1) ** 2
                + fake.sigmoid() ** 2,
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
                "the generator does not make the real points: its loss has no term of them": softplus(-real)
                + softplus(-fake),
                "minus the critic's loss is the minimax game, whose slope vanishes; wanted -log D": -softplus(-real)
                - softplus(fake),
                "the generator's loss is that of its own points, and they count as real": softplus(real),
                "a loss is the logarithm of D, and not D itself: -log D(G(z))": 1 - fake.sigmoid(),
                "a loss is the logarithm of D, and not D: -log D(G(z))": -fake.sigmoid(),
                "the pairs come in section 5: here the made point alone": softplus(real - fake),
                "the logit alone is not the loss: -log D = softplus(-f)": -fake,
            },
            shape_hint="one number a row",
        )
    sure = torch.tensor([200.0, -200.0, 0.0])
    critic, generator = _pair(answer(sure, sure))
    _bear("critic", critic, 200)
    _bear("generator", generator, 200)
    expect(critic, softplus(-sure) + softplus(sure), what="the critic's loss where it is sure")
    expect(generator, softplus(-sure), what="the generator's loss where the critic is sure")


_BY_AUTOGRAD = {
    "does not require grad": "differentiate by a copy that asks for it, `x = x.detach().requires_grad_()`, and compute "
    "f from that copy",
    "appears to not have been used in the graph": "f must be computed from the very x by which you differentiate",
    "only for scalar outputs": "`torch.autograd.grad` wants one number: the sum of the answers over the rows",
    "'tuple' object": "`torch.autograd.grad` returns a tuple, of one gradient here: `(slope,) = …`",
}


@exercise("18.penalty", "How steep", error_hints=_BY_AUTOGRAD)
def _(answer: Answer, draw: Draw) -> None:
    for (b, d, k), dtype in [((6, 3, 4), torch.float64), ((4, 5, 6), torch.float32), ((1, 3, 2), torch.float64)]:
        x, W, v = draw.normal(b, d, dtype=dtype), draw.normal(k, d, dtype=dtype), draw.normal(k, dtype=dtype)
        h = torch.tanh(x @ W.T)
        slope = (v * (1 - h**2)) @ W
        squared, own = slope.square().sum(1), h @ v
        mistakes = {
            "the square of the length: no root": squared.sqrt(),
            "that is the gradient itself: its squared length is asked for": slope,
            "the squared length is the sum over the coordinates, not their mean": squared / d,
            "that is the critic's own answer, not how steep it is": own,
            "R1 wants the gradient to be 0; that is the penalty which wants it to be 1": (squared.sqrt() - 1) ** 2,
            "the factor of one half comes later, with the weight: |grad f|² alone": squared / 2,
            "that is the derivative by the critic's weights: differentiate by x": (
                (v * (1 - h**2)).square().sum(1) * x.square().sum(1)
            ),
            "square each coordinate, then add: not the square of their sum": slope.sum(1).square(),
            "the squared length: squares are added, not absolute values": slope.abs().sum(1),
            "the derivative of tanh is 1 - tanh², not tanh": ((v * h) @ W).square().sum(1),
            "the derivative of tanh is 1 - tanh²: a square is missing": ((v * (1 - h)) @ W).square().sum(1),
            "v is missing: each of the k terms has its weight": ((1 - h**2) @ W).square().sum(1),
            "the chain rule: W comes down as well, (v (1 - tanh²)) W": (v * (1 - h**2)).square().sum(1),
            "tanh has a slope, 1 - tanh², at each point": (v @ W).square().sum().expand(b),
            "that is the critic's own answer, squared: how steep it is is asked for": own.square(),
            "of f, not of f²": (2 * own[:, None] * slope).square().sum(1),
            "of the logit f, not of D": squared * (own.sigmoid() * (1 - own.sigmoid())) ** 2,
            "of the logit f, not of a loss of it": squared * own.sigmoid() ** 2,
            "of the logit f, and not of a loss of it": squared * (1 - own.sigmoid()) ** 2,
        }
        mistakes |= {
            "add over the coordinates, not over the rows: `.sum(1)`": slope.square().sum(0),
            "one number a row, as (b,): no `keepdim`": squared[:, None],
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

        def by_weights(inner: bool, outer: bool) -> Tensor:
            """The gradient through the W in the tanh, through the W in front, or both."""
            weights = W.clone().requires_grad_()
            one, other = (weights if on else W for on in (inner, outer))
            value = ((v * (1 - (x @ one.T).tanh() ** 2)) @ other).square().sum()
            return torch.autograd.grad(value, weights)[0]

        half = (
            "W stands in it twice, in the tanh and in front of it: a gradient must flow through both, nothing detached"
        )
        expect(
            seen.gradient,
            by_weights(True, True),
            what="the gradient of |grad f|² by the critic's weights",
            mistakes={half: by_weights(True, False), f"{half}.": by_weights(False, True)},
        )


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
                "the difference goes through softplus: it is missing": fake - real,
                "the hinge is another loss: softplus is wanted": (1 + fake - real).relu(),
                "in pairs, and not against the mean of the others": softplus(fake - real.mean())
                + softplus(fake.mean() - real),
                "pairs are rows: no mean over all the others": softplus(fake[:, None] - real).mean(1),
                "one softplus, of the difference: not the difference of two": softplus(fake) - softplus(real),
                "the difference of the logits, not of their sigmoids": softplus(fake.sigmoid() - real.sigmoid()),
                "which is larger is told by a difference: the logits are not added": softplus(fake + real),
                "which is larger is told by a difference: the logits are subtracted": softplus(-fake - real),
                "one half too many: softplus of the difference alone": right / 2,
                "row i with row i: nothing is sorted": softplus(fake.sort()[0] - real.sort()[0]),
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
                "only the difference counts for it, too: softplus(f(x) - f(G(z)))": softplus(-fake) + softplus(real),
                "the difference goes through softplus for the generator, too": real - fake,
                "the generator's loss looks at both points: f(x) - f(G(z))": softplus(fake),
                "the generator's loss looks at both, f(x) - f(G(z))": softplus(real),
                "the logarithm is missing for the generator: -log sigmoid(a) is softplus(-a)": torch.sigmoid(
                    real - fake
                ),
            },
            shape_hint="one number a row",
        )
    sure = torch.tensor([200.0, -200.0, 0.0])
    critic, generator = _pair(answer(sure, -sure))
    _bear("critic", critic, 400)
    _bear("generator", generator, 400)
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
            if not lost:
                raise Wrong("it is NaN or infinite though every mode has samples", "under the logarithm stands q / p")
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
            "that is q log p alone: wanted q log q - q log p": (q * weights.log()).sum(),
            "that is the entropy of q: p is missing": -torch.special.xlogy(q, q).sum(),
            "a share is out of all samples: divide by the sum of the counts, not by the number of modes": (
                torch.special.xlogy(counts / k, counts / k / weights).sum()
            ),
            "a share is out of all samples: divide by the sum of the counts, not by the largest": (
                torch.special.xlogy(counts / counts.max(), counts / counts.max() / weights).sum()
            ),
            "`//` leaves nothing of a share: divide with `/`": torch.zeros(()),
            "q stands under the logarithm as well, and not the counts": torch.special.xlogy(q, counts / weights).sum(),
            "nothing is to be added to the counts: a mode without samples counts 0": (
                (counts + 1) / (counts + 1).sum() * ((counts + 1) / (counts + 1).sum() / weights).log()
            ).sum(),
            "terms below 0 belong to it: no absolute values": torch.special.xlogy(q, q / weights).abs().sum(),
            "that is the total variation: the logarithm is missing": (q - weights).abs().sum() / 2,
            "that is KL to the mean of both, half of Jensen-Shannon: here the other law is p": (
                torch.special.xlogy(q, 2 * q / (q + weights)).sum()
            ),
            "the weights are shares already: not times k": torch.special.xlogy(q, q / (weights * k)).sum(),
            "`F.kl_div` takes the logarithm of p, and q": (torch.special.xlogy(q, q) - q * weights).sum(),
            "counts are divided by their sum; a softmax is for logits": (
                counts.float().softmax(0) * (counts.float().log_softmax(0) - weights.log())
            ).sum(),
        }
        if not lost:
            forward = torch.special.xlogy(weights, weights / q).sum()
            mistakes |= {
                "that is KL(p || q), which sends q where p is; reverse is KL(q || p)": forward,
                "the reverse direction alone, without KL(p || q)": right + forward,
                "q stands in front, and p is under the logarithm: that is -p log q": -(weights * q.log()).sum(),
            }
        else:
            left = weights[lost:] / weights[lost:].sum()
            mistakes["the data's weights stay as they are, also where modes are lost"] = torch.special.xlogy(
                q[lost:], q[lost:] / left
            ).sum()
        one = torch.as_tensor(got) if isinstance(got, int | float) else got
        value = one.float() if isinstance(one, Tensor) else one  # as counts / counts.sum() is
        expect(value, right, what="the reverse KL", mistakes=mistakes, shape_hint="one number")
