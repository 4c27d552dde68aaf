"""Answers to the exercises of lesson 17."""

import torch
from torch.nn import functional as F

from answers import right, wrong

# --- 17.patchify ------------------------------------------------------------------------------------------------------


@right("17.patchify")
def patchify(x, p):
    b, c, height, width = x.shape
    cut = x.reshape(b, c, height // p, p, width // p, p)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


@right("17.patchify")
def patchify_unshuffled(x, p):
    return F.pixel_unshuffle(x, p).flatten(2).mT


@right("17.patchify")
def patchify_unfolded(x, p):
    return F.unfold(x, p, stride=p).transpose(1, 2)


@right("17.patchify")
def patchify_loop(x, p):
    rows = range(0, x.shape[2], p)
    columns = range(0, x.shape[3], p)
    return torch.stack([x[:, :, i : i + p, j : j + p].flatten(1) for i in rows for j in columns], dim=1)


@wrong("17.patchify", "channels last")
def patchify_as_the_paper(x, p):
    b, c, height, width = x.shape
    cut = x.reshape(b, c, height // p, p, width // p, p)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


@wrong("17.patchify", "`reshape` alone")
def patchify_reshaped(x, p):
    return x.reshape(len(x), -1, x.shape[1] * p * p)


@wrong("17.patchify", "whole numbers")
def patchify_divided(x, p):
    b, c, height, width = x.shape
    return x.reshape(b, c, height / p, p, width / p, p)


@wrong("17.patchify", "bring them behind")
def patchify_channel_by_channel(x, p):
    return x.unfold(2, p, p).unfold(3, p, p).reshape(len(x), -1, x.shape[1] * p * p)


@wrong("17.patchify", "does not turn")
def patchify_unshuffled_not_turned(x, p):
    return F.pixel_unshuffle(x, p).reshape(len(x), -1, x.shape[1] * p * p)


@wrong("17.patchify", "the other way round")
def patchify_split_the_other_way(x, p):
    b, c, height, width = x.shape
    cut = x.reshape(b, c, p, height // p, p, width // p)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * p * p)


@wrong("17.patchify", "column by column")
def patchify_columns(x, p):
    return torch.stack(
        [x[:, :, i : i + p, j : j + p].flatten(1) for j in range(0, x.shape[3], p) for i in range(0, x.shape[2], p)],
        dim=1,
    )


# --- 17.flops ---------------------------------------------------------------------------------------------------------


@right("17.flops")
def flops(n, c, seen):
    return 24 * n * c**2 + 4 * n * seen * c


@right("17.flops")
def flops_layer_by_layer(n, c, seen):
    weights = c * 3 * c + c * c + c * 4 * c + 4 * c * c
    return 2.0 * n * weights + 2 * n * (seen * c + seen * c)


@right("17.flops")
def flops_in_a_tensor(n, c, seen):
    return torch.tensor(24 * n * c**2 + 4 * n * seen * c)


@wrong("17.flops", "count as two")
def flops_multiplications(n, c, seen):
    return 12 * n * c**2 + 2 * n * seen * c


@wrong("17.flops", "linear layers, too")
def flops_half_of_them(n, c, seen):
    return 12 * n * c**2 + 4 * n * seen * c


@wrong("17.flops", "linear layers are missing")
def flops_of_attention(n, c, seen):
    return 4 * n * seen * c


@wrong("17.flops", "one token")
def flops_of_one_token(n, c, seen):
    return 24 * c**2 + 4 * seen * c


@wrong("17.flops", "lacks the c")
def flops_of_pairs(n, c, seen):
    return 24 * n * c**2 + 4 * n * seen


@wrong("17.flops", "looks at all n")
def flops_of_all(n, c, seen):
    return 24 * n * c**2 + 4 * n * n * c


@wrong("17.flops", "should be one number")
def flops_in_parts(n, c, seen):
    return torch.tensor([24 * n * c**2, 4 * n * seen * c])


# --- 17.adaln ---------------------------------------------------------------------------------------------------------


@right("17.adaln")
def adaln(h, shift, scale, gate, weight):
    x = F.layer_norm(h, h.shape[-1:])
    x = (1 + scale[:, None]) * x + shift[:, None]
    return h + gate[:, None] * (x @ weight.mT)


@right("17.adaln")
def adaln_by_hand(h, shift, scale, gate, weight):
    centred = h - h.mean(-1, keepdim=True)
    x = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
    x = x + x * scale.unsqueeze(1) + shift.unsqueeze(1)
    return h + gate.unsqueeze(1) * F.linear(x, weight)


@right("17.adaln")
def adaln_token_by_token(h, shift, scale, gate, weight):
    out = torch.empty_like(h)
    for token in range(h.shape[1]):
        x = F.layer_norm(h[:, token], h.shape[-1:]) * (1 + scale) + shift
        out[:, token] = h[:, token] + gate * (x @ weight.T)
    return out


@wrong("17.adaln", "multiplies by scale")
def adaln_no_one(h, shift, scale, gate, weight):
    return h + gate[:, None] * ((scale[:, None] * F.layer_norm(h, h.shape[-1:]) + shift[:, None]) @ weight.mT)


@wrong("17.adaln", "variance + 0.00001")
def adaln_without_epsilon(h, shift, scale, gate, weight):
    x = (h - h.mean(-1, keepdim=True)) / h.std(-1, correction=0, keepdim=True)
    return h + gate[:, None] * (((1 + scale[:, None]) * x + shift[:, None]) @ weight.mT)


@wrong("17.adaln", "adds 0.000001")
def adaln_smaller_epsilon(h, shift, scale, gate, weight):
    x = F.layer_norm(h, h.shape[-1:], eps=1e-6)
    return h + gate[:, None] * (((1 + scale[:, None]) * x + shift[:, None]) @ weight.mT)


@wrong("17.adaln", "come after it")
def adaln_modulated_late(h, shift, scale, gate, weight):
    x = F.layer_norm(h, h.shape[-1:]) @ weight.mT
    return h + gate[:, None] * ((1 + scale[:, None]) * x + shift[:, None])


@wrong("17.adaln", "scaled and shifted")
def adaln_norm_late(h, shift, scale, gate, weight):
    x = F.layer_norm((1 + scale[:, None]) * h + shift[:, None], h.shape[-1:])
    return h + gate[:, None] * (x @ weight.mT)


@wrong("17.adaln", "one for each picture")
def adaln_no_column(h, shift, scale, gate, weight):
    return h + gate * (((1 + scale) * F.layer_norm(h, h.shape[-1:]) + shift) @ weight.mT)


@wrong("17.adaln", "in place")
def adaln_in_place(h, shift, scale, gate, weight):
    h += adaln(h, shift, scale, gate, weight) - h
    return h


@wrong("17.adaln", "like the input")
def adaln_in_float(h, shift, scale, gate, weight):
    return adaln(h.double(), shift.double(), scale.double(), gate.double(), weight.double())


# --- 17.unwindow ------------------------------------------------------------------------------------------------------


@right("17.unwindow")
def unwindow(windows, w, rows, columns):
    b, _, _, c = windows.shape
    cut = windows.reshape(b, rows // w, columns // w, w, w, c)
    return cut.permute(0, 1, 3, 2, 4, 5).reshape(b, rows, columns, c)


@right("17.unwindow")
def unwindow_loop(windows, w, rows, columns):
    grid = windows.new_empty(len(windows), rows, columns, windows.shape[-1])
    for k in range(windows.shape[1]):
        i, j = w * (k // (columns // w)), w * (k % (columns // w))
        grid[:, i : i + w, j : j + w] = windows[:, k].unflatten(1, (w, w))
    return grid


@right("17.unwindow")
def unwindow_folded(windows, w, rows, columns):
    values = windows.permute(0, 3, 2, 1).flatten(1, 2)
    return F.fold(values, (rows, columns), w, stride=w).permute(0, 2, 3, 1)


@wrong("17.unwindow", "`reshape` alone")
def unwindow_reshaped(windows, w, rows, columns):
    return windows.reshape(len(windows), rows, columns, -1)


@wrong("17.unwindow", "swapped")
def unwindow_turned(windows, w, rows, columns):
    b, _, _, c = windows.shape
    return windows.reshape(b, rows // w, columns // w, w, w, c).permute(0, 1, 4, 2, 3, 5).reshape(b, rows, columns, c)


@wrong("17.unwindow", "swapped in both")
def unwindow_as_columns(windows, w, rows, columns):
    return unwindow(windows, w, columns, rows).transpose(1, 2)


@wrong("17.unwindow", "columns first")
def unwindow_as_patches(windows, w, rows, columns):
    b, _, _, c = windows.shape
    return windows.reshape(b, rows // w, columns // w, w, w, c).permute(0, 2, 4, 1, 3, 5).reshape(b, rows, columns, c)


@wrong("17.unwindow", "whole numbers")
def unwindow_divided(windows, w, rows, columns):
    return windows.reshape(len(windows), rows / w, columns / w, w, w, -1)


@wrong("17.unwindow", "in place")
def unwindow_in_place(windows, w, rows, columns):
    windows *= 1.5
    return unwindow(windows, w, rows, columns) / 1.5


# --- 17.shift_mask ----------------------------------------------------------------------------------------------------


@right("17.shift_mask")
def shift_mask(rows, columns, w, s):
    row, column = torch.arange(rows) >= rows - s, torch.arange(columns) >= columns - s
    piece = 2 * row.long()[:, None] + column.long()
    piece = piece.reshape(rows // w, w, columns // w, w).transpose(1, 2).reshape(-1, w * w)
    return piece[:, :, None] == piece[:, None, :]


@right("17.shift_mask")
def shift_mask_as_the_paper(rows, columns, w, s):
    piece = torch.zeros(rows, columns)
    slices = (slice(0, -w), slice(-w, -s), slice(-s, None)) if s else (slice(None),)
    for number, (i, j) in enumerate((i, j) for i in slices for j in slices):
        piece[i, j] = number
    piece = piece.reshape(rows // w, w, columns // w, w).transpose(1, 2).reshape(-1, w * w)
    return piece.unsqueeze(1) - piece.unsqueeze(2) == 0


@right("17.shift_mask")
def shift_mask_by_where_they_lay(rows, columns, w, s):
    """Two tokens of a window may look at each other if they lay as far apart before the roll as they do now."""
    i, j = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")

    def cut(grid):
        return grid.reshape(rows // w, w, columns // w, w).transpose(1, 2).reshape(-1, w * w)

    def apart(grid):
        return cut(grid)[:, :, None] - cut(grid)[:, None]

    before = [x.roll((-s, -s), (0, 1)) for x in (i, j)]
    return (apart(before[0]) == apart(i)) & (apart(before[1]) == apart(j))


@wrong("17.shift_mask", "at the beginning")
def shift_mask_other_way(rows, columns, w, s):
    piece = 2 * (torch.arange(rows) < s).long()[:, None] + (torch.arange(columns) < s).long()
    piece = piece.reshape(rows // w, w, columns // w, w).transpose(1, 2).reshape(-1, w * w)
    return piece[:, :, None] == piece[:, None, :]


def mask_of(piece, w):
    piece = piece.reshape(piece.shape[0] // w, w, piece.shape[1] // w, w).transpose(1, 2).reshape(-1, w * w)
    return piece[:, :, None] == piece[:, None, :]


@wrong("17.shift_mask", "one fewer")
def shift_mask_off_by_one(rows, columns, w, s):
    return mask_of(2 * (torch.arange(rows) > rows - s).long()[:, None] + (torch.arange(columns) > columns - s), w)


@wrong("17.shift_mask", "are w // 2")
def shift_mask_of_half_a_window(rows, columns, w, s):
    s = w // 2
    return mask_of(2 * (torch.arange(rows) >= rows - s).long()[:, None] + (torch.arange(columns) >= columns - s), w)


@wrong("17.shift_mask", "the corner is one")
def shift_mask_two_pieces(rows, columns, w, s):
    return mask_of((torch.arange(rows) >= rows - s)[:, None] | (torch.arange(columns) >= columns - s), w)


@wrong("17.shift_mask", "one of its own")
def shift_mask_three_pieces(rows, columns, w, s):
    piece = torch.zeros(rows, columns)
    piece[rows - s :] = 1
    piece[:, columns - s :] = 2
    return mask_of(piece, w)


@wrong("17.shift_mask", "`reshape` alone")
def shift_mask_reshaped(rows, columns, w, s):
    piece = 2 * (torch.arange(rows) >= rows - s).long()[:, None] + (torch.arange(columns) >= columns - s)
    piece = piece.reshape(-1, w * w)
    return piece[:, :, None] == piece[:, None, :]


@wrong("17.shift_mask", "truth values")
def shift_mask_of_infinities(rows, columns, w, s):
    return torch.zeros(rows * columns // w**2, w * w, w * w).masked_fill(~shift_mask(rows, columns, w, s), -torch.inf)


@wrong("17.shift_mask", "may not")
def shift_mask_inverted(rows, columns, w, s):
    return ~shift_mask(rows, columns, w, s)


@wrong("17.shift_mask", "taken for one")
def shift_mask_sum(rows, columns, w, s):
    piece = (torch.arange(rows) >= rows - s).long()[:, None] + (torch.arange(columns) >= columns - s).long()
    piece = piece.reshape(rows // w, w, columns // w, w).transpose(1, 2).reshape(-1, w * w)
    return piece[:, :, None] == piece[:, None, :]


# --- 17.relative_index ------------------------------------------------------------------------------------------------


@right("17.relative_index")
def relative_index(w):
    place = torch.arange(w * w)
    row, column = place // w, place % w
    down, across = row[:, None] - row + w - 1, column[:, None] - column + w - 1
    return down * (2 * w - 1) + across


@right("17.relative_index")
def relative_index_loop(w):
    places = [(i, j) for i in range(w) for j in range(w)]
    return torch.tensor([[(i - k + w - 1) * (2 * w - 1) + j - l + w - 1 for k, l in places] for i, j in places])


@right("17.relative_index")
def relative_index_of_one_number(w):
    place = torch.arange(w).repeat_interleave(w) * (2 * w - 1) + torch.arange(w).repeat(w)
    return place[:, None] - place[None] + 2 * w * (w - 1)


@right("17.relative_index")
def relative_index_in_int32(w):
    return relative_index(w).int()


@wrong("17.relative_index", "not w")
def relative_index_from_w(w):
    return relative_index(w) + 2 * w


@wrong("17.relative_index", "number 0")
def relative_index_from_one(w):
    return relative_index(w) + 1


@wrong("17.relative_index", "columns, too")
def relative_index_columns_turned(w):
    place = torch.arange(w * w)
    row, column = place // w, place % w
    return (row[:, None] - row + w - 1) * (2 * w - 1) + column - column[:, None] + w - 1


@wrong("17.relative_index", "rows and columns apart")
def relative_index_of_places(w):
    return torch.arange(w * w)[:, None] - torch.arange(w * w)


@wrong("17.relative_index", "the other way round")
def relative_index_of_keys(w):
    return relative_index(w).T


@wrong("17.relative_index", "whole numbers")
def relative_index_in_floats(w):
    return relative_index(w).float()


@wrong("17.relative_index", "an index from 0")
def relative_index_negative(w):
    return relative_index(w) - 2 * w * (w - 1)
