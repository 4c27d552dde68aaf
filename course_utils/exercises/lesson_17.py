"""Checks of lesson 17, transformers."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.denoisers.dit import modulate
from course_utils.denoisers.swin import relative_index, shift_mask, window_partition
from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import Draw, expect, numbers
from course_utils.exercises.engine import exercise

_WHOLE = "sizes are whole numbers: `//`"
_EPS = "under the root of the norm stands variance + 0.00001"
_COLUMN = "shift, scale and gate are (b, c), one for each picture: `[:, None]` puts the tokens between"


@exercise(
    "17.patchify",
    "Patches in a row",
    error_hints={
        "view size is not compatible": "`view` cannot follow a transpose; use `reshape` or `flatten`",
        "got float": _WHOLE,
        "must be tuple of ints": _WHOLE,
        "'float' object": _WHOLE,
        "invalid for input of size": "b · c · height · width numbers, n = height · width / p² patches of c · p² each",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for b, c, rows, columns, p, dtype in [
        (2, 3, 2, 3, 4, torch.float32),
        (3, 1, 4, 2, 2, torch.float64),
        (2, 2, 3, 3, 3, torch.float64),
        (1, 3, 3, 2, 1, torch.float32),
        (2, 2, 1, 1, 3, torch.float64),
    ]:
        x = draw.normal(b, c, rows * p, columns * p, dtype=dtype)
        cut = x.reshape(b, c, rows, p, columns, p)  # b c r i s j

        def put(order: tuple, cut: Tensor = cut, shape: tuple = (b, rows * columns, c * p * p)) -> Tensor:
            return cut.permute(order).reshape(shape)

        expect(
            answer(x, p),
            put((0, 2, 4, 1, 3, 5)),
            what="the row of patches",
            mistakes={
                "`reshape` alone cuts the row of numbers where it likes, and mixes patches: split height and width "
                "first, then reorder": put((0, 1, 2, 3, 4, 5)),
                "within a patch channels come first, then rows, then columns; yours has the channels last": put(
                    (0, 2, 4, 3, 5, 1)
                ),
                "within a patch rows come before columns; yours are swapped": put((0, 2, 4, 1, 5, 3)),
                "patches go row by row; yours go column by column": put((0, 4, 2, 1, 3, 5)),
                "rows come before columns, of patches and within a patch; yours are swapped in both": put(
                    (0, 4, 2, 1, 5, 3)
                ),
                "a patch has all its channels: bring them behind its row and column; yours goes through all patches "
                "of the first channel, then the next": put((0, 1, 2, 4, 3, 5)),
                "a row for each patch: `reshape` alone does not turn rows into columns, `.mT` does": put(
                    (0, 1, 3, 5, 2, 4)
                ),
                "`reshape(b, c, height // p, p, …)` splits a side; yours are split the other way round": x.reshape(
                    b, c, p, rows, p, columns
                )
                .permute(0, 2, 4, 1, 3, 5)
                .reshape(b, -1, c * p * p),
                "a patch is a square of neighbours; yours takes every pixel that is a patch's side apart": (
                    x.reshape(b, c, p, rows, p, columns).permute(0, 3, 5, 1, 2, 4).reshape(b, -1, c * p * p)
                ),
                "a row for each patch: yours is a row for each number in it, `.mT` turns it": put(
                    (0, 2, 4, 1, 3, 5)
                ).mT,
                "all channels of a patch make one token; yours has a token for each channel": put(
                    (0, 1, 2, 4, 3, 5)
                ).reshape(b, c * rows * columns, p * p),
                "the numbers of a patch stand in one row, c · p² of them": put((0, 2, 4, 1, 3, 5)).reshape(
                    b, rows * columns, c, p, p
                ),
            },
            shape_hint="(b, n, c · p²), n = height · width / p²",
        )


@exercise("17.flops", "What a block costs")
def _(answer: Answer, draw: Draw) -> None:
    cases = [(49, 96, 49), (196, 32, 49), (7, 8, 3), (1, 5, 1), (256, 64, 16)]
    got: list[Any] = [answer(*case) for case in cases]

    def of(linear: float, logits: float, other: Any = None) -> Tensor:
        seen = other or (lambda n, c, k: k)
        return torch.tensor(
            [linear * n * c**2 + logits * n * seen(n, c, k) * c for n, c, k in cases], dtype=torch.float64
        )

    expect(
        numbers(got, "the cost"),
        of(24, 4),
        what="the cost",
        mistakes={
            "a multiplication and an addition count as two": of(12, 2),
            "the linear layers are missing: queries, keys, values, the one after attention, and the MLP": of(0, 4),
            "in the linear layers, too, a multiplication and an addition count as two; and the MLP is 4 c wide": of(
                12, 4
            ),
            "the MLP is missing: to 4 c and back again": of(8, 4),
            "attention's own two products, of queries with keys and of weights with values, are missing": of(24, 0),
            "two products, not one: queries with keys, and weights with values": of(24, 2),
            "each token looks at `seen` tokens; yours looks at all n": of(24, 4, lambda n, c, k: n),
            "the linear layers run for all n tokens; yours run for `seen` of them": torch.tensor(
                [24 * k * c**2 + 4 * n * k * c for n, c, k in cases], dtype=torch.float64
            ),
            "a product of a query and a key takes c multiplications: yours lacks the c": of(
                24, 4, lambda n, c, k: k / c
            ),
            "that is the cost of one token; there are n": torch.tensor(
                [24 * c**2 + 4 * k * c for n, c, k in cases], dtype=torch.float64
            ),
            "attention too costs something for each of the n tokens: yours counts it once": of(
                24, 4, lambda n, c, k: k / n
            ),
            "each of the n tokens looks at `seen`: n · seen pairs, yours are seen²": of(
                24, 4, lambda n, c, k: k * k / n
            ),
            "the MLP goes to 4 c and back: twice 2 · 4 c², yours goes one way": of(16, 4),
            "the layer after attention, c to c, is missing": of(22, 4),
            "queries, keys and values are three layers: 6 c²": of(20, 4),
            "that is a training step, three times the cost of the forward pass": of(72, 12),
            "the linear layers cost the same for each token: n times, yours once": torch.tensor(
                [24 * c**2 + 4 * n * k * c for n, c, k in cases], dtype=torch.float64
            ),
            "a linear layer of c to c has c² weights, not c": torch.tensor(
                [24 * n * c + 4 * n * k * c for n, c, k in cases], dtype=torch.float64
            ),
        },
    )


@exercise(
    "17.adaln",
    "A branch of adaLN-zero",
    error_hints={
        "The size of tensor": _COLUMN,
        "must match": _COLUMN,
        "cannot be multiplied": "weight is (c, c): `x @ weight.mT`, as nn.Linear does",
        "normalized_shape": "the norm runs over the channels: `F.layer_norm(h, h.shape[-1:])`",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for b, n, c, dtype in [
        (3, 5, 8, torch.float64),
        (4, 4, 6, torch.float32),
        (6, 6, 6, torch.float64),
        (1, 7, 4, torch.float32),
        (2, 1, 8, torch.float64),
    ]:
        h = 2 * draw.normal(b, n, c, dtype=dtype) + 1
        shift, scale, gate = (draw.normal(b, c, dtype=dtype) for _ in range(3))
        weight = draw.normal(c, c, dtype=dtype) / c**0.5
        s, k, g = (vector[:, None] for vector in (shift, scale, gate))
        norm = F.layer_norm(h, (c,))

        def added(x: Tensor, g: Tensor = g, h: Tensor = h, weight: Tensor = weight) -> Tensor:
            return h + g * (x @ weight.mT)

        right = modulate(h, s, k)
        mistakes = {
            "(1 + scale), so that a scale of 0 changes nothing; yours multiplies by scale": added(k * norm + s),
            "the gate is missing: at 0 it closes the branch": added(right, torch.ones_like(g)),
            "the gate closes at 0; yours is 1 + gate": added(right, 1 + g),
            "the residual is missing: h + …": g * (right @ weight.mT),
            "what is added to is h as it came, not its norm": norm + g * (right @ weight.mT),
            "what is added to is h as it came, not modulated": right + g * (right @ weight.mT),
            "the norm is missing": added((1 + k) * h + s),
            "shift and scale are swapped": added((1 + s) * norm + k),
            "first scale, then shift; yours scales the shift, too": added((1 + k) * (norm + s)),
            "the shift is missing": added((1 + k) * norm),
            "the scale is missing": added(norm + s),
            "x @ weight.mT, as nn.Linear does": h + g * (right @ weight),
            "the layer is missing: weight": h + g * right,
            "the gate multiplies the branch alone, not the residual": g * (h + right @ weight.mT),
            "the gate comes after the layer; yours comes before it": h + (g * right) @ weight.mT,
            "the norm divides by the root of the mean of (h - mean)²; yours by that with c - 1": added(
                (1 + k) * (h - h.mean(-1, keepdim=True)) / h.std(-1, keepdim=True) + s
            ),
            _EPS: added((1 + k) * (h - h.mean(-1, keepdim=True)) / h.std(-1, correction=0, keepdim=True) + s),
            f"{_EPS}; yours adds it after the root": added(
                (1 + k) * (h - h.mean(-1, keepdim=True)) / (h.std(-1, correction=0, keepdim=True) + 1e-5) + s
            ),
            f"{_EPS}; yours adds 0.000001": added((1 + k) * F.layer_norm(h, (c,), eps=1e-6) + s),
            "the norm divides by the *root* of the variance; yours by the variance": added(
                (1 + k) * (h - h.mean(-1, keepdim=True)) / (h.var(-1, correction=0, keepdim=True) + 1e-5) + s
            ),
            "scale and shift come before the layer; yours come after it": h + g * ((1 + k) * (norm @ weight.mT) + s),
            "the shift comes before the layer and the gate; yours comes last": h
            + g * (((1 + k) * norm) @ weight.mT)
            + s,
            "first the norm, then scale and shift; yours takes the norm of what was scaled and shifted": added(
                F.layer_norm((1 + k) * h + s, (c,))
            ),
            "scale and gate are swapped": h + k * (((1 + g) * norm + s) @ weight.mT),
            "residual and gate are missing: h + gate · …": right @ weight.mT,
            "the residual stays whole; yours is (1 - gate) h": h * (1 - g) + g * (right @ weight.mT),
            "the norm takes the mean out, too; yours only divides by the root mean square": added(
                (1 + k) * F.rms_norm(h, (c,), eps=1e-5) + s
            ),
            "the norm is that of each token, over its channels; yours takes the whole picture": added(
                (1 + k) * F.layer_norm(h, (n, c)) + s
            ),
            "the norm is that of each token, over its channels; yours takes the whole batch": added(
                (1 + k) * F.layer_norm(h, (b, n, c)) + s
            ),
            "the norm is that of each token, over its channels; yours runs over the tokens": added(
                (1 + k) * F.layer_norm(h.mT, (n,)).mT + s
            ),
        }
        if b == n:
            mistakes[_COLUMN] = h + gate * (((1 + scale) * norm + shift) @ weight.mT)
        if n == 1:  # then several of these agree
            mistakes = {}
        expect(answer(h, shift, scale, gate, weight), added(right), what="the new h", mistakes=mistakes)
    h, nothing = draw.normal(2, 3, 4), torch.zeros(2, 4)
    expect(answer(h, nothing, nothing, nothing, torch.ones(4, 4)), h, what="with all three at zero the new h")


@exercise(
    "17.unwindow",
    "Back from windows",
    error_hints={
        "view size is not compatible": "`view` cannot follow a transpose; use `reshape` or `flatten`",
        "got float": _WHOLE,
        "must be tuple of ints": _WHOLE,
        "'float' object": _WHOLE,
        "invalid for input of size": "there are rows / w times columns / w windows, of w times w tokens each",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for b, c, down, across, w, dtype in [
        (2, 3, 2, 3, 4, torch.float32),
        (3, 2, 3, 2, 2, torch.float64),
        (2, 2, 3, 3, 3, torch.float64),
        (1, 4, 2, 5, 1, torch.float32),
        (2, 3, 1, 1, 3, torch.float64),
    ]:
        grid = draw.normal(b, down * w, across * w, c, dtype=dtype)
        windows = window_partition(grid, w)

        def put(shape: tuple, order: tuple, windows: Tensor = windows, grid: Tensor = grid) -> Tensor:
            return windows.reshape(shape).permute(order).reshape(grid.shape)

        cut = (b, down, across, w, w, c)
        expect(
            answer(windows, w, down * w, across * w),
            grid,
            what="the grid",
            mistakes={
                "`reshape` alone puts a window's tokens into one row of the grid: split, reorder, then join": put(
                    cut, (0, 1, 2, 3, 4, 5)
                ),
                "a window's own rows and columns are swapped": put(cut, (0, 1, 4, 2, 3, 5)),
                "windows go row by row; yours are read column by column": put(
                    (b, across, down, w, w, c), (0, 2, 3, 1, 4, 5)
                ),
                "a window is a block of neighbours; yours spreads it over the grid": put(cut, (0, 3, 1, 4, 2, 5)),
                "the windows' rows come outermost, then the rows in a window": put(cut, (0, 3, 1, 2, 4, 5)),
                "rows come before columns, of windows and within a window; yours are swapped in both": put(
                    (b, across, down, w, w, c), (0, 2, 4, 1, 3, 5)
                ),
                "rows of windows and rows in them belong together, and come first; yours has columns first": (
                    put(cut, (0, 2, 4, 1, 3, 5))
                ),
                "windows come before the tokens in them: split into (b, rows / w, columns / w, w, w, c)": put(
                    (b, w, w, down, across, c), (0, 3, 1, 4, 2, 5)
                ),
                "channels stay last: (b, rows, columns, c)": grid.permute(0, 3, 1, 2),
                "the grid has rows and columns: yours has its tokens in one row": grid.flatten(1, 2),
                "rows and columns of the grid are swapped": grid.transpose(1, 2),
            },
            shape_hint="(b, rows, columns, c)",
        )


@exercise(
    "17.shift_mask",
    "Who came round the edge",
    error_hints={
        "got float": _WHOLE,
        "must be tuple of ints": _WHOLE,
        "'float' object": _WHOLE,
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for down, across, w, s in [
        (2, 3, 8, 2),
        (2, 3, 3, 1),
        (3, 2, 4, 2),
        (1, 2, 4, 3),
        (2, 2, 7, 3),
        (2, 3, 2, 0),
        (1, 1, 3, 1),
    ]:
        rows, columns = down * w, across * w

        i, j = torch.arange(rows), torch.arange(columns)

        def alike(piece: Tensor) -> Tensor:
            return piece[:, :, None] == piece[:, None, :]

        def cut(piece: Tensor, w: int = w) -> Tensor:
            return alike(window_partition(piece.double()[None, :, :, None], w)[0, :, :, 0])

        def together(row: Tensor, column: Tensor, cut: Any = cut) -> Tensor:
            return cut(2 * row[:, None] + column)

        def last(several_rows: int, several_columns: int, i: Tensor = i, j: Tensor = j) -> Tensor:
            return together((i >= len(i) - several_rows).long(), (j >= len(j) - several_columns).long())

        late = (i >= rows - s).long(), (j >= columns - s).long()
        early = (i < s).long(), (j < s).long()
        got = answer(rows, columns, w, s)
        if isinstance(got, Tensor) and got.dtype != torch.bool:
            raise Wrong("the mask should be made of truth values", "`piece[:, :, None] == piece[:, None, :]` is")
        right = shift_mask(rows, columns, w, s)
        expect(
            got,
            right,
            what="the mask",
            mistakes={
                "true where a token may look: yours is true where it may not": ~right,
                "rolled by -s the first s rows and columns come to the *end*; yours look for them at the beginning": (
                    together(*early)
                ),
                "columns come round the edge as rows do; yours minds the rows alone": together(late[0], 0 * j),
                "rows come round the edge as columns do; yours minds the columns alone": together(0 * i, late[1]),
                "one number for each of four pieces: with `row + column` two of them are taken for one": (
                    cut(late[0][:, None] + late[1])
                ),
                "in the last windows there are tokens from the other edge, which may not look at the others": (
                    torch.ones_like(right)
                ),
                "a token may look at all of its own piece; yours looks at itself alone": (
                    torch.eye(w * w, dtype=torch.bool).expand_as(right)
                ),
                "s rows come round the edge; yours are w - s": last(w - s, w - s),
                "s rows come round the edge, `>= rows - s`; yours are one fewer": last(s - 1, s - 1),
                "s rows come round the edge, `>= rows - s`; yours are one more": last(s + 1, s + 1),
                "s rows come round the edge; yours are w // 2": last(w // 2, w // 2),
                "there are four pieces: the corner is one, and what came round at one edge is not what came round at "
                "the other": cut(late[0][:, None] | late[1]),
                "there are four pieces; yours parts the corner alone": cut(late[0][:, None] * late[1]),
                "there are four pieces: the corner, which came round both edges, is one of its own": cut(
                    torch.where(late[1].bool(), 2, late[0][:, None])
                ),
                "there are four pieces: the corner, which came round both edges, is one of its own, also for rows": cut(
                    torch.where(late[0].bool()[:, None], 2, late[1])
                ),
                "rows *and* columns must be of the same piece; yours asks for one of them": together(late[0], 0 * j)
                | together(0 * i, late[1]),
                "columns are counted from their own end, `>= columns - s`": together(late[0], (j >= rows - s).long()),
                "`reshape` alone cuts the grid where it likes: cut it into windows as in `window_partition`": alike(
                    (2 * late[0][:, None] + late[1]).reshape(-1, w * w)
                ),
                "windows go row by row; yours go column by column": (
                    right.unflatten(0, (down, across)).transpose(0, 1).flatten(0, 1)
                ),
                "the tokens of a window lie row by row; yours column by column": (
                    right.reshape(-1, w, w, w, w).permute(0, 2, 1, 4, 3).reshape(right.shape)
                ),
            }
            if s and w > 2
            else {"with s = 0 nothing came round: every token of a window may look at every other": ~right},
            shape_hint="(windows, w², w²)",
        )


@exercise("17.relative_index", "An entry for each offset", error_hints={"got float": _WHOLE})
def _(answer: Answer, draw: Draw) -> None:
    for w in (3, 4, 2, 1):
        row, column = torch.arange(w).repeat_interleave(w), torch.arange(w).repeat(w)
        down, across = row[:, None] - row, column[:, None] - column
        got = answer(w)
        if isinstance(got, Tensor) and got.is_floating_point():
            raise Wrong("the entries should be whole numbers", "an index is; `//` and `torch.arange` keep them so")
        if isinstance(got, Tensor) and got.dtype in (torch.int32, torch.int16):
            got = got.long()  # numpy's, on some machines
        expect(
            got,
            relative_index(w, w),
            what="the index",
            mistakes={
                "row of the *query* minus row of the key: yours is the other way round": (
                    (w - 1 - down) * (2 * w - 1) + w - 1 - across
                ),
                "offsets run from -(w - 1), an index from 0: add w - 1 to both": down * (2 * w - 1) + across,
                "the lowest offset, -(w - 1), gets entry 0: add w - 1 to both, not w": (
                    (down + w) * (2 * w - 1) + across + w
                ),
                "the first entry is number 0; yours is 1": (down + w - 1) * (2 * w - 1) + across + w,
                "columns, too, are the query's minus the key's": (down + w - 1) * (2 * w - 1) + w - 1 - across,
                "rows, too, are the query's minus the key's": (w - 1 - down) * (2 * w - 1) + across + w - 1,
                "a row of the table has 2 w - 1 offsets, since 0 is one; yours has 2 w - 2": (
                    (down + w - 1) * (2 * w - 2) + across + w - 1
                ),
                "a row of the table has 2 w - 1 offsets; yours has 2 w + 1": (
                    (down + w - 1) * (2 * w + 1) + across + w - 1
                ),
                "the difference of two places in the row of tokens is no offset: take rows and columns apart": (
                    down * w + across
                ),
                "negative entries would count from the table's end: add w - 1 to each offset, no `%`": (
                    (down * (2 * w - 1) + across) % (2 * w - 1) ** 2
                ),
                "w - 1 is missing for the rows": down * (2 * w - 1) + across + w - 1,
                "w - 1 is missing for the columns": (down + w - 1) * (2 * w - 1) + across,
                "a row of the table has 2 w - 1 offsets; yours has w, and several offsets share an entry": (
                    (down + w - 1) * w + across + w - 1
                ),
                "a row of the table has 2 w - 1 offsets; yours has 2 w": (down + w - 1) * 2 * w + across + w - 1,
                "rows count for 2 w - 1, columns for 1; yours are swapped": (
                    (across + w - 1) * (2 * w - 1) + down + w - 1
                ),
                "above and below differ: no absolute value": down.abs() * (2 * w - 1) + across.abs(),
                "sum of both offsets: several offsets share an entry; rows count for 2 w - 1": (
                    down + across + 2 * (w - 1)
                ),
                "an offset of two tokens, not the place of one": (row * w + column).expand(w * w, -1),
            }
            if w > 1
            else {},
            shape_hint="a row for each query and a column for each key, (w², w²)",
        )
