"""Checks of lesson 06, attention and the U-Net."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.denoisers.attention import attend
from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import Draw, expect, numbers
from course_utils.exercises.engine import exercise

ROWS = "queries against keys: `q @ k.mT`, which is (…, n, n); `.mT` swaps the last two dimensions"
"""The hint where two matrices do not fit."""


@exercise(
    "06.attend",
    "Attention",
    error_hints={
        "must match": ROWS,
        "Expected size for": ROWS,
        "cannot be multiplied": ROWS,
        "too many indices": "there may be any number of dimensions in front: count them from the end, -1 and -2",
        "not enough values to unpack": "there may be any number of dimensions in front: `q.shape[-1]` is d",
        "too many values to unpack": "there may be any number of dimensions in front: `q.shape[-1]` is d",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in [
        ((2, 3, 5, 4), torch.float64),
        ((4, 6, 6), torch.float32),
        ((7, 3), torch.float64),
        ((4, 4, 4, 4), torch.float64),
        ((1, 2, 9, 16), torch.float32),
    ]:
        q, k, v = (draw.normal(*shape, dtype=dtype) for _ in range(3))
        n, d = shape[-2:]
        dots = q @ k.mT
        weights = torch.softmax(dots / math.sqrt(d), -1)

        def causal(dots: Tensor, d: int = d) -> Tensor:
            return torch.softmax((dots / math.sqrt(d)).masked_fill(torch.ones_like(dots).triu(1).bool(), -math.inf), -1)

        mistakes = {
            "divide by the root of d: without it the softmax becomes a choice of one": dots.softmax(-1) @ v,
            "the variance of q · k is d, so divide by its *root*": (dots / d).softmax(-1) @ v,
            "d is the length of a query, the last dimension; yours is the number of positions": (
                dots / math.sqrt(n)
            ).softmax(-1)
            @ v,
            "multiply by 1 / sqrt(d), not by sqrt(d)": (dots * math.sqrt(d)).softmax(-1) @ v,
            "the weights of one query sum to one over the keys: softmax along the last dimension": (
                dots / math.sqrt(d)
            ).softmax(-2)
            @ v,
            "the softmax is missing: weights are positive and sum to one": dots / math.sqrt(d) @ v,
            "queries and keys are swapped: row i of the weights belongs to query i": torch.softmax(
                dots.mT / math.sqrt(d), -1
            )
            @ v,
            "it is the values that are averaged, not the keys": weights @ k,
            "the root belongs inside the softmax, on the logits": dots.softmax(-1) @ v / math.sqrt(d),
            "keys are compared with keys: the queries are not used": torch.softmax(k @ k.mT / math.sqrt(d), -1) @ v,
            "queries are compared with queries: the keys are not used": torch.softmax(q @ q.mT / math.sqrt(d), -1) @ v,
            "row i of the weights mixes the values for query i: yours are transposed": weights.mT @ v,
            "the input is added: that comes later, Eq. (6.6)": v + weights @ v,
            "the input is added: that comes later, Eq. (6.6), and it is no query": q + weights @ v,
            "every position looks at every other, before it and after it: no mask": causal(dots) @ v,
            "a position looks at itself, too": torch.softmax(
                (dots / math.sqrt(d)).masked_fill(torch.eye(n, dtype=torch.bool), -1e9), -1
            )
            @ v,
            "the weights of a query sum to one: softmax, not a sigmoid for each": torch.sigmoid(dots / math.sqrt(d))
            @ v,
            "the weights are no logarithms: softmax, not log_softmax": torch.log_softmax(dots / math.sqrt(d), -1) @ v,
            "the sign: what is alike gets more weight": torch.softmax(-dots / math.sqrt(d), -1) @ v,
            "the dot products are not squared": torch.softmax(dots**2 / math.sqrt(d), -1) @ v,
            "dot products compare, not distances": torch.softmax(-torch.cdist(q, k) / math.sqrt(d), -1) @ v,
            "one root of d is enough": torch.softmax(dots / d**0.25, -1) @ v,
            "queries and keys keep their lengths: nothing has to be made a unit vector": torch.softmax(
                F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT, -1
            )
            @ v,
            "that is the average of all values: the weights depend on queries and keys": v.mean(-2, True).expand_as(v),
            "an average, not a choice of one": F.one_hot(dots.argmax(-1), n).to(dtype) @ v,
        }
        if len(shape) > 2:
            mistakes["the softmax runs over the first dimension, the pictures; it belongs over the keys, dim=-1"] = (
                torch.softmax(dots / math.sqrt(d), 0) @ v
            )
        if n == d:  # elsewhere PyTorch complains
            mistakes["queries against keys need `k.mT`: each entry is a dot product of two rows"] = (
                torch.softmax(q @ k / math.sqrt(d), -1) @ v
            )
        expect(
            answer(q, k, v),
            attend(q, k, v),
            what="attend(q, k, v)",
            mistakes=mistakes,
            shape_hint="one answer for each query, as large as q",
        )
    q, k, v = (draw.normal(3, 1, 4, dtype=torch.float64) for _ in range(3))
    expect(answer(q, k, v), v, what="attend with a single position, which can only look at itself,")
    # Large logits: exp overflows, torch.softmax does not.
    q, k, v = (draw.normal(5, 3, dtype=torch.float32) for _ in range(3))
    got = answer(200 * q, 200 * k, v)
    if isinstance(got, Tensor) and not got.isfinite().all():
        raise Wrong(
            "with large queries and keys it returns NaN or infinity",
            "exp of a large number is infinite, inf / inf is NaN: `torch.softmax` takes the largest logit off first",
        )
    expect(
        got,
        attend(200 * q, 200 * k, v),
        what="attend of large queries and keys",
        mistakes={
            "to cut logits off changes the weights: take the largest of the row off instead": torch.softmax(
                (200 * q @ (200 * k).mT / 3**0.5).clamp(-50, 50), -1
            )
            @ v
        },
    )


@exercise(
    "06.split_heads",
    "Splitting heads",
    error_hints={
        "view size is not compatible": "`view` cannot follow a transpose; use `reshape` or `unflatten`",
        "got float": "use `//`: sizes are whole numbers",
        "equal size": "the features are cut into parts, the last dimension, not the pixels",
        "invalid for input of size": "the sizes are b, n, heads and c / heads; `-1` lets PyTorch find one of them",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for b, n, c, heads, dtype in [
        (2, 5, 6, 3, torch.float64),
        (3, 4, 8, 4, torch.float32),
        (1, 2, 4, 2, torch.float64),
        (2, 7, 8, 2, torch.float64),
    ]:
        x, d = draw.normal(b, n, c, dtype=dtype), c // heads
        right = torch.stack([x[:, :, i * d : (i + 1) * d] for i in range(heads)], dim=1)
        mistakes = {
            "`reshape` alone cuts the row of numbers where it likes: head 0 gets all features of the first pixels. "
            "Split the last dimension first, then swap": x.reshape(b, heads, n, d),
            "head 0 gets the *first* c / heads features; yours takes every heads-th": x.unflatten(
                -1, (d, heads)
            ).permute(0, 3, 1, 2),
            "the last two dimensions are swapped: pixels first, features last": right.mT,
            "swap dimensions 1 and 2 at the end: heads come before pixels": x.unflatten(-1, (heads, d)),
            "pixels and features are mixed: split the last dimension before anything is moved": x.mT.reshape(
                b, heads, n, d
            ),
            "the heads come in the wrong order": right.flip(1),
        }
        expect(
            answer(x, heads),
            right,
            what="the split",
            mistakes=mistakes,
            shape_hint="(b, heads, n, c / heads): swap dimensions 1 and 2 at the end",
        )


@exercise("06.dearer_from", "Where attention becomes dearer")
def _(answer: Answer, draw: Draw) -> None:
    ties = [10, 40, 90, 160, 250, 4000, 16_000]  # 2.5 c is a square: at that side both cost the same
    widths = [*ties, 1, 2, 3, 1280, *draw.distinct(6, 400, 8).tolist()]

    def above(ratio: float, *, tie: bool = False) -> Tensor:
        """The first side with n > ratio · c (or >=)."""
        sides = [next(s for s in range(1, 1000) if s * s > ratio * c or (tie and s * s == ratio * c)) for c in widths]
        return torch.tensor(sides, dtype=torch.float64)

    right = above(2.5)
    expect(
        numbers([answer(c) for c in widths], "the side"),
        right,
        what="the side",
        mistakes={
            "at a tie attention is not dearer yet: more than, not at least": above(2.5, tie=True),
            "one too small: round up, since at the side below attention is still cheaper": right - 1,
            "one too large": right + 1,
            "that is the number of pixels n; the side is its root": torch.tensor(
                [math.floor(2.5 * c) + 1 for c in widths], dtype=torch.float64
            ),
            "attention has its linear layers too, 8 n c²": above(4.5),
            "multiplications and additions both count on both sides: 18 n c² for the convolution": above(0.25),
            "attention multiplies large matrices twice: Q K^T and then the values, 4 n² c together": above(5.0),
            "that is where pairs cost more than attention's linear layers; compare with the convolution": above(2.0),
            "a side is a whole number": (2.5 * torch.tensor(widths, dtype=torch.float64)).sqrt(),
            "round down and add one, not to the nearest": (2.5 * torch.tensor(widths, dtype=torch.float64))
            .sqrt()
            .round(),
            "round down and add one; yours rounds to the nearest and adds one": (
                (2.5 * torch.tensor(widths, dtype=torch.float64)).sqrt().round() + 1
            ),
            "that is where n² c of pairs alone cost as much as the layers do: count operations as in (6.7)": above(
                10.0
            ),
            "any whole side, be it even or odd": right + right % 2,
            "a 3 × 3 convolution has nine weights for each pair of channels: 18 n c²": torch.ones_like(right),
        },
    )


@exercise(
    "06.space_to_depth",
    "Space to depth",
    error_hints={
        "invalid for input of size": "b, c, h / r, r, w / r, r: the six sizes must multiply to the number of pixels",
        "must be integers": "use `//`: sizes are whole numbers",
        "object cannot be interpreted as an integer": "use `//`: sizes are whole numbers",
        "got float": "use `//`: sizes are whole numbers",
        "view size is not compatible": "after `permute` use `reshape`, not `view`: the numbers must move in memory",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for (b, c, h, w), r, dtype in [
        ((2, 3, 4, 6), 2, torch.float64),
        ((1, 1, 4, 4), 2, torch.float32),
        ((2, 2, 6, 6), 3, torch.float64),
        ((1, 3, 4, 8), 4, torch.float32),
        ((3, 2, 8, 4), 2, torch.float64),
        ((2, 2, 4, 2), 1, torch.float64),
    ]:
        x = draw.normal(b, c, h, w, dtype=dtype)
        blocks, size = x.reshape(b, c, h // r, r, w // r, r), (b, c * r * r, h // r, w // r)
        quarters = x.reshape(b, c, r, h // r, r, w // r)
        twos = F.pixel_unshuffle(x, 2)
        fixed = {
            f"blocks are r × r; yours are 2 × 2 whatever r is{end}": wrong
            for end, wrong in [("", twos), (": look for a 2 in the code", twos.reshape(size))]
            if r != 2
        }
        expect(
            answer(x, r),
            F.pixel_unshuffle(x, r),
            what="the result",
            mistakes=fixed
            | {
                "`reshape` alone moves no number: bring the pixels of a block together with `permute`": x.reshape(size),
                "the places in a block come out column by column: i, the row, before j": blocks.permute(
                    0, 1, 5, 3, 2, 4
                ).reshape(size),
                "channel c r² + i r + j: the r² places of *one* channel lie together": blocks.permute(
                    0, 3, 5, 1, 2, 4
                ).reshape(size),
                "the picture is cut into r × r large parts; the blocks are small, and their pixels neighbours: "
                "split rows into (h / r, r), not (r, h / r)": quarters.permute(0, 1, 2, 4, 3, 5).reshape(size),
                "join in the order b, c, i, j, u, v: yours has u and v before i and j": blocks.permute(
                    0, 1, 2, 4, 3, 5
                ).reshape(size),
                "u and v are swapped: rows before columns": blocks.permute(0, 1, 3, 5, 4, 2).reshape(size),
                "the result's channels are in reverse": F.pixel_unshuffle(x, r).flip(1),
                "channel c r² + i r + j: j and i come after c, and i before j": blocks.permute(
                    0, 5, 3, 1, 2, 4
                ).reshape(size),
                "channel c r² + i r + j: c comes first, then i, then j": blocks.permute(0, 3, 1, 5, 2, 4).reshape(size),
                "nothing is averaged: the pixels of a block become channels": F.avg_pool2d(x, r).repeat_interleave(
                    r * r, 1
                ),
                "only the first pixel of each block is kept; the others become channels too": x[..., ::r, ::r].repeat(
                    1, r * r, 1, 1
                ),
            },
            shape_hint="(b, c r², h / r, w / r): all pixels are still there: nothing is averaged, none left out",
        )


@exercise(
    "06.group_norm",
    "GroupNorm",
    error_hints={
        "must match": "`keepdim=True` keeps the dimension that was averaged over, so that shapes fit",
        "invalid for input of size": "`x.reshape(len(x), groups, -1)` has last what is normalised together",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for (b, c, h, w), groups, dtype in [
        ((3, 6, 4, 5), 3, torch.float64),
        ((2, 8, 3, 3), 2, torch.float32),
        ((4, 4, 4, 4), 2, torch.float64),
        ((2, 12, 2, 3), 3, torch.float64),
        ((2, 4, 3, 3), 1, torch.float64),
        ((3, 3, 4, 2), 3, torch.float64),
    ]:
        each = 1 + draw.uniform(0, 2, b, c, 1, 1, dtype=dtype)
        x = each * draw.normal(b, c, h, w, dtype=dtype) + draw.normal(b, c, 1, 1, dtype=dtype)
        eps = draw.number(0.05, 0.3)  # large enough to be seen

        def by(x: Tensor, dims: tuple[int, ...], *, correction: int = 0, eps: float = eps) -> Tensor:
            mean, variance = x.mean(dims, keepdim=True), x.var(dims, keepdim=True, correction=correction)
            return (x - mean) / (variance + eps).sqrt()

        grouped = x.reshape(b, groups, c // groups, h, w)
        mean, variance = grouped.mean((2, 3, 4), keepdim=True), grouped.var((2, 3, 4), keepdim=True, correction=0)
        interleaved = x.reshape(b, c // groups, groups, h, w)
        expect(
            answer(x, groups, eps),
            F.group_norm(x, groups, eps=eps),
            what="the normalised tensor",
            mistakes={
                name: wrong.reshape(x.shape)
                for name, wrong in {
                    "divide by the number of values, not by one less: `correction=0`": by(
                        grouped, (2, 3, 4), correction=1
                    ),
                    "that is BatchNorm: the statistics run over the batch, and mix noise levels": by(x, (0, 2, 3)),
                    "the statistics run over the batch: every picture has its own": by(grouped, (0, 2, 3, 4)),
                    "that is InstanceNorm: all channels of a group share one mean and one variance": by(x, (2, 3)),
                    "all channels are in one group: there are `groups` of them": by(x, (1, 2, 3)),
                    "groups are neighbouring channels; yours takes every groups-th": by(interleaved, (1, 3, 4)),
                    "each pixel is normalised by itself: the statistics run over all pixels, too": by(grouped, (2,)),
                    "the mean is not taken off": grouped / (variance + eps).sqrt(),
                    "divide by the root of the variance": (grouped - mean) / (variance + eps),
                    "eps stands inside the root, beside the variance": (grouped - mean) / (variance.sqrt() + eps),
                    "eps is missing; a channel of equal pixels would divide by zero": (grouped - mean)
                    / variance.sqrt(),
                    "the mean is taken off, but nothing is divided": grouped - mean,
                    "eps is an argument; yours has 1e-5 written into it": (grouped - mean) / (variance + 1e-5).sqrt(),
                    "a standard deviation for n - 1, and eps outside the root: divide by sqrt(variance + eps)": (
                        grouped - mean
                    )
                    / (grouped.var((2, 3, 4), keepdim=True).sqrt() + eps),
                    "eps is added as it is, not squared": (grouped - mean) / (variance + eps**2).sqrt(),
                    "eps belongs to the variance, not to the result": (grouped - mean) / variance.sqrt() + eps,
                    "eps belongs to the variance, not to x": (grouped - mean + eps) / (variance + eps).sqrt(),
                    "the variance is a mean of squares, not their sum": (grouped - mean)
                    / ((grouped - mean).square().sum((2, 3, 4), keepdim=True) + eps).sqrt(),
                    "the variance is a mean of squares, not of absolute values": (grouped - mean)
                    / ((grouped - mean).abs().mean((2, 3, 4), keepdim=True) + eps),
                    "mean and variance, not the smallest and the largest": (grouped - grouped.amin((2, 3, 4), True))
                    / (grouped.amax((2, 3, 4), True) - grouped.amin((2, 3, 4), True) + eps),
                    "the mean is not taken off, neither above nor below the line": grouped
                    / (grouped.square().mean((2, 3, 4), keepdim=True) + eps).sqrt(),
                    "one root of the variance is enough": (grouped - mean) / (variance + eps) ** 0.25,
                    "the square of the mean is missing: the variance is that of the differences from it": (
                        grouped - mean
                    )
                    / (grouped.square().mean((2, 3, 4), keepdim=True) + eps).sqrt(),
                    "`groups` is the number of groups, not the number of channels in one": by(
                        x.reshape(b, c // groups, groups, h, w), (2, 3, 4)
                    ),
                }.items()
            },
            shape_hint="normalising changes no shape: go back to x.shape at the end",
        )
