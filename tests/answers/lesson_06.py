"""Answers to lesson 06."""

import math

import torch
from torch.nn import functional as F

from answers import right, wrong

# --- 06.attend -------------------------------------------------------------------------------------------------------


@right("06.attend")
def attend(q, k, v):
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), dim=-1) @ v


@right("06.attend")
def attend_einsum(q, k, v):
    logits = torch.einsum("...id,...jd->...ij", q, k) * q.shape[-1] ** -0.5
    weights = (logits - logits.amax(-1, keepdim=True)).exp()
    return torch.einsum("...ij,...jd->...id", weights / weights.sum(-1, keepdim=True), v)


@right("06.attend")
def attend_query_by_query(q, k, v):
    rows = [torch.softmax((q[..., i : i + 1, :] * k).sum(-1) / q.shape[-1] ** 0.5, -1) for i in range(q.shape[-2])]
    return torch.stack([(w[..., None] * v).sum(-2) for w in rows], dim=-2)


@wrong("06.attend", "choice of one")
def attend_no_root(q, k, v):
    return torch.softmax(q @ k.mT, dim=-1) @ v


@wrong("06.attend", "its *root*")
def attend_divided_by_d(q, k, v):
    return torch.softmax(q @ k.mT / q.shape[-1], dim=-1) @ v


@wrong("06.attend", "`.mT` swaps the last two")
def attend_no_transpose(q, k, v):
    return torch.softmax(q @ k / q.shape[-1] ** 0.5, dim=-1) @ v


@wrong("06.attend", "takes the largest logit off first")
def attend_overflows(q, k, v):
    weights = (q @ k.mT / q.shape[-1] ** 0.5).exp()
    return weights / weights.sum(-1, keepdim=True) @ v


@wrong("06.attend", "count them from the end")
def attend_four_dimensions_only(q, k, v):
    return torch.softmax(q @ k.mT / q[0, 0, 0, :].numel() ** 0.5, dim=-1) @ v


@wrong("06.attend", "any number of dimensions in front")
def attend_unpacks(q, k, v):
    _, _, _, d = q.shape
    return torch.softmax(q @ k.mT / d**0.5, dim=-1) @ v


# --- 06.split_heads --------------------------------------------------------------------------------------------------


@right("06.split_heads")
def split_heads(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


@right("06.split_heads")
def split_heads_reshape(x, heads):
    b, n, c = x.shape
    return x.reshape(b, n, heads, c // heads).permute(0, 2, 1, 3)


@right("06.split_heads")
def split_heads_chunks(x, heads):
    return torch.stack(x.chunk(heads, dim=-1), dim=1)


@wrong("06.split_heads", "cuts the row of numbers where it likes")
def split_heads_reshape_alone(x, heads):
    b, n, c = x.shape
    return x.reshape(b, heads, n, c // heads)


@wrong("06.split_heads", "every heads-th")
def split_heads_interleaved(x, heads):
    return torch.stack([x[..., i::heads] for i in range(heads)], dim=1)


@wrong("06.split_heads", "swap dimensions 1 and 2")
def split_heads_three_dimensions(x, heads):
    b, n, c = x.shape
    return x.reshape(b * heads, n, c // heads)


@wrong("06.split_heads", "should be a tensor, got tuple")
def split_heads_tuple(x, heads):
    return x.chunk(heads, dim=-1)


@wrong("06.split_heads", "lets PyTorch find one of them")
def split_heads_wrong_sizes(x, heads):
    b, n, c = x.shape
    return x.reshape(b, n, heads, heads, c).transpose(1, 2)


@wrong("06.split_heads", "sizes are whole numbers")
def split_heads_by_a_float(x, heads):
    return x.reshape(*x.shape[:2], heads, x.shape[2] / heads).transpose(1, 2)


@wrong("06.split_heads", "the last dimension, not the pixels")
def split_heads_along_the_pixels(x, heads):
    return torch.stack(x.chunk(heads, 1), 1)


# --- 06.dearer_from --------------------------------------------------------------------------------------------------


@right("06.dearer_from")
def dearer_from(channels):
    side = 1
    while 4 * side**4 * channels + 8 * side**2 * channels**2 <= 18 * side**2 * channels**2:
        side += 1
    return side


@right("06.dearer_from")
def dearer_from_root(channels):
    return math.isqrt(5 * channels // 2) + 1


@right("06.dearer_from")
def dearer_from_tensor(channels):
    sides = torch.arange(1, 1000)
    return sides[2 * sides**2 > 5 * channels][0]


@wrong("06.dearer_from", "more than, not at least")
def dearer_from_ceil(channels):
    return math.ceil(math.sqrt(2.5 * channels))


@wrong("06.dearer_from", "one too small")
def dearer_from_floor(channels):
    return math.floor(math.sqrt(2.5 * channels))


@wrong("06.dearer_from", "should be one number")
def dearer_from_all(channels):
    sides = torch.arange(1, 100)
    return sides[2 * sides**2 > 5 * channels]


# --- 06.space_to_depth -----------------------------------------------------------------------------------------------


@right("06.space_to_depth")
def space_to_depth(x, r):
    b, c, h, w = x.shape
    return x.reshape(b, c, h // r, r, w // r, r).permute(0, 1, 3, 5, 2, 4).reshape(b, c * r * r, h // r, w // r)


@right("06.space_to_depth")
def space_to_depth_slices(x, r):
    parts = torch.stack([x[..., i::r, j::r] for i in range(r) for j in range(r)], dim=2)
    return parts.flatten(1, 2)


@right("06.space_to_depth")
def space_to_depth_unfold(x, r):
    b, c, h, w = x.shape
    return F.unfold(x, r, stride=r).reshape(b, c * r * r, h // r, w // r)


@wrong("06.space_to_depth", "moves no number")
def space_to_depth_reshape(x, r):
    b, c, h, w = x.shape
    return x.reshape(b, c * r * r, h // r, w // r)


@wrong("06.space_to_depth", "column by column")
def space_to_depth_column_first(x, r):
    return torch.stack([x[..., i::r, j::r] for j in range(r) for i in range(r)], dim=2).flatten(1, 2)


@wrong("06.space_to_depth", "nothing is averaged")
def space_to_depth_pooled(x, r):
    return F.avg_pool2d(x, r)


@wrong("06.space_to_depth", "nothing is averaged")
def space_to_depth_strided(x, r):
    return x[..., ::r, ::r]


@wrong("06.space_to_depth", "must multiply to the number of pixels")
def space_to_depth_sides_not_divided(x, r):
    b, c, h, w = x.shape
    return x.reshape(b, c, h, r, w, r).permute(0, 1, 3, 5, 2, 4).reshape(b, c * r * r, h // r, w // r)


@wrong("06.space_to_depth", "whole numbers")
def space_to_depth_float_sizes(x, r):
    b, c, h, w = x.shape
    return x.reshape(b, c, h / r, r, w / r, r).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


@wrong("06.space_to_depth", "not `view`")
def space_to_depth_view(x, r):
    b, c, h, w = x.shape
    return x.reshape(b, c, h // r, r, w // r, r).permute(0, 1, 3, 5, 2, 4).view(b, c * r * r, h // r, w // r)


# --- 06.group_norm ---------------------------------------------------------------------------------------------------


@right("06.group_norm")
def group_norm(x, groups, eps):
    g = x.reshape(len(x), groups, -1)
    mean = g.mean(-1, keepdim=True)
    variance = (g - mean).square().mean(-1, keepdim=True)
    return ((g - mean) / (variance + eps).sqrt()).reshape(x.shape)


@right("06.group_norm")
def group_norm_moments(x, groups, eps):
    g = x.unflatten(1, (groups, -1))
    mean = g.mean((2, 3, 4), keepdim=True)
    return ((g - mean) * (g.var((2, 3, 4), keepdim=True, unbiased=False) + eps).rsqrt()).flatten(1, 2)


@right("06.group_norm")
def group_norm_loop(x, groups, eps):
    parts = [(p - p.mean()) / torch.sqrt(((p - p.mean()) ** 2).mean() + eps) for one in x for p in one.chunk(groups)]
    return torch.cat(parts).reshape(x.shape)


def normalised(g, dims, eps, correction=0):
    return (g - g.mean(dims, keepdim=True)) / (g.var(dims, keepdim=True, correction=correction) + eps).sqrt()


@wrong("06.group_norm", "not by one less")
def group_norm_unbiased(x, groups, eps):
    return normalised(x.reshape(len(x), groups, -1), -1, eps, correction=1).reshape(x.shape)


@wrong("06.group_norm", "that is BatchNorm")
def group_norm_batch(x, groups, eps):
    return normalised(x, (0, 2, 3), eps)


@wrong("06.group_norm", "go back to x.shape")
def group_norm_grouped_shape(x, groups, eps):
    return normalised(x.reshape(len(x), groups, -1), -1, eps)


@wrong("06.group_norm", "in place")
def group_norm_in_place(x, groups, eps):
    g = x.view(len(x), groups, -1)
    g -= g.mean(-1, keepdim=True)
    return (g / (g.square().mean(-1, keepdim=True) + eps).sqrt()).reshape(x.shape)


@wrong("06.group_norm", "`keepdim=True`")
def group_norm_no_keepdim(x, groups, eps):
    g = x.reshape(len(x), groups, -1)
    return ((g - g.mean(-1)) / (g.var(-1, correction=0) + eps).sqrt()).reshape(x.shape)


# --- what readers and attackers found ---------------------------------------------------------------------------------


@wrong("06.attend", "inf / inf")
def attend_as_printed(q, k, v):
    weights = (q @ k.mT / math.sqrt(q.shape[-1])).exp()
    return weights / weights.sum(-1, keepdim=True) @ v
