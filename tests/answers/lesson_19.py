"""Answers to the exercises of lesson 19."""

import math

import torch

from answers import right, wrong

# --- 19.hide ----------------------------------------------------------------------------------------------------------


@right("19.hide")
def hide(x_0, u, keep, mask):
    return torch.where(u < keep[:, None], x_0, mask)


@right("19.hide")
def hide_filled(x_0, u, keep, mask):
    return x_0.masked_fill(u >= keep.unsqueeze(1), mask)


@right("19.hide")
def hide_loop(x_0, u, keep, mask):
    rows = zip(x_0.tolist(), u.tolist(), keep.tolist(), strict=True)
    return torch.tensor([[x if one < k else mask for x, one in zip(row, us, strict=True)] for row, us, k in rows])


@wrong("19.hide", "0 is a letter")
def hide_zero(x_0, u, keep, mask):
    return x_0 * (u < keep[:, None])


@wrong("19.hide", "stands before its letters")
def hide_no_column(x_0, u, keep, mask):
    return torch.where(u < keep, x_0, mask)


@wrong("19.hide", "whole numbers")
def hide_floats(x_0, u, keep, mask):
    return torch.where(u < keep[:, None], x_0.float(), float(mask))


@wrong("19.hide", "in place")
def hide_in_place(x_0, u, keep, mask):
    x_0[u >= keep[:, None]] = mask
    return x_0


@wrong("19.hide", "of its own")
def hide_own_chance(x_0, u, keep, mask):
    return torch.where(torch.rand(x_0.shape) < keep[:, None], x_0, mask)


@wrong("19.hide", "true and false")
def hide_condition(x_0, u, keep, mask):
    return u < keep[:, None]


@wrong("19.hide", "chooses for each letter")
def hide_if(x_0, u, keep, mask):
    return x_0 if u < keep[:, None] else mask


# --- 19.bound ---------------------------------------------------------------------------------------------------------


@right("19.bound")
def bound(log_p, hidden, alpha, slope):
    return slope / (1 - alpha) * (log_p * hidden).sum(1)


@right("19.bound")
def bound_chosen(log_p, hidden, alpha, slope):
    return -slope / (1 - alpha) * torch.where(hidden, -log_p, 0.0).sum(-1)


@right("19.bound")
def bound_loop(log_p, hidden, alpha, slope):
    return torch.stack(
        [-d / (1 - a) * -p[mine].sum() for p, mine, a, d in zip(log_p, hidden, alpha, slope, strict=True)]
    )


@wrong("19.bound", "the sign")
def bound_sign(log_p, hidden, alpha, slope):
    return -slope / (1 - alpha) * (log_p * hidden).sum(1)


@wrong("19.bound", "one number for each text")
def bound_no_sum(log_p, hidden, alpha, slope):
    return -(slope / (1 - alpha))[:, None] * -log_p * hidden


@wrong("19.bound", "one number for each text")
def bound_one_number(log_p, hidden, alpha, slope):
    return (slope / (1 - alpha) * (log_p * hidden).sum(1)).mean()


@wrong("19.bound", "in place")
def bound_in_place(log_p, hidden, alpha, slope):
    log_p[~hidden] = 0
    return slope / (1 - alpha) * log_p.sum(1)


@wrong("19.bound", "the letters of a text are summed")
def bound_mean_of_hidden(log_p, hidden, alpha, slope):
    return slope / (1 - alpha) * (log_p * hidden).sum(1) / hidden.sum(1)


@wrong("19.bound", "all texts into one")
def bound_indexed(log_p, hidden, alpha, slope):
    return slope / (1 - alpha) * log_p[hidden].sum()


# --- 19.unmask --------------------------------------------------------------------------------------------------------


@right("19.unmask")
def unmask(x_t, drawn, u, alpha_t, alpha_s, mask):
    chance = (alpha_s - alpha_t) / (1 - alpha_t)
    return torch.where((x_t == mask) & (u < chance), drawn, x_t)


@right("19.unmask")
def unmask_stay(x_t, drawn, u, alpha_t, alpha_s, mask):
    stays = (1 - alpha_s) / (1 - alpha_t)
    x_s = x_t.clone()
    reveal = (x_t == mask) & (u < 1 - stays)
    x_s[reveal] = drawn[reveal]
    return x_s


@right("19.unmask")
def unmask_loop(x_t, drawn, u, alpha_t, alpha_s, mask):
    chance = (alpha_s - alpha_t) / (1 - alpha_t)
    out = x_t.clone()
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            if out[i, j] == mask and u[i, j] < chance:
                out[i, j] = drawn[i, j]
    return out


@wrong("19.unmask", "what is known stays")
def unmask_overwrites(x_t, drawn, u, alpha_t, alpha_s, mask):
    return torch.where(u < (alpha_s - alpha_t) / (1 - alpha_t), drawn, x_t)


@wrong("19.unmask", "divide by 1 - alpha_t")
def unmask_not_given(x_t, drawn, u, alpha_t, alpha_s, mask):
    return torch.where((x_t == mask) & (u < alpha_s - alpha_t), drawn, x_t)


@wrong("19.unmask", "in place")
def unmask_in_place(x_t, drawn, u, alpha_t, alpha_s, mask):
    reveal = (x_t == mask) & (u < (alpha_s - alpha_t) / (1 - alpha_t))
    x_t[reveal] = drawn[reveal]
    return x_t


@wrong("19.unmask", "of its own")
def unmask_own_chance(x_t, drawn, u, alpha_t, alpha_s, mask):
    return unmask(x_t, drawn, torch.rand(u.shape), alpha_t, alpha_s, mask)


@wrong("19.unmask", "brackets of its own")
def unmask_no_brackets(x_t, drawn, u, alpha_t, alpha_s, mask):
    return torch.where(x_t == mask & u < (alpha_s - alpha_t) / (1 - alpha_t), drawn, x_t)


@wrong("19.unmask", "chooses for each letter")
def unmask_and(x_t, drawn, u, alpha_t, alpha_s, mask):
    return torch.where((x_t == mask) and (u < (alpha_s - alpha_t) / (1 - alpha_t)), drawn, x_t)


# --- 19.cents ---------------------------------------------------------------------------------------------------------


@right("19.cents")
def cents(frequency, wanted):
    return 1200 * torch.log2(frequency / wanted)


@right("19.cents")
def cents_natural(frequency, wanted):
    return (frequency.log() - wanted.log()) / math.log(2) * 1200


@right("19.cents")
def cents_loop(frequency, wanted):
    values = [1200 * math.log2(f / g) for f, g in zip(frequency.tolist(), wanted.tolist(), strict=True)]
    return torch.tensor(values, dtype=frequency.dtype)


@wrong("19.cents", "too high is off by a positive")
def cents_turned(frequency, wanted):
    return 1200 * torch.log2(wanted / frequency)


@wrong("19.cents", "base 2")
def cents_natural_log(frequency, wanted):
    return 1200 * (frequency / wanted).log()


@wrong("19.cents", "in place")
def cents_in_place(frequency, wanted):
    return 1200 * frequency.div_(wanted).log2()


# --- 19.keep_phase ----------------------------------------------------------------------------------------------------


@right("19.keep_phase")
def keep_phase(real, imag, magnitude):
    scale = magnitude / (real**2 + imag**2).sqrt()
    return torch.stack([scale * real, scale * imag], -1)


@right("19.keep_phase")
def keep_phase_by_angle(real, imag, magnitude):
    angle = torch.atan2(imag, real)
    return torch.stack([magnitude * angle.cos(), magnitude * angle.sin()], -1)


@right("19.keep_phase")
def keep_phase_complex(real, imag, magnitude):
    z = torch.complex(real, imag)
    return torch.view_as_real(magnitude * z / z.abs())


@wrong("19.keep_phase", "divide by the old magnitude")
def keep_phase_no_division(real, imag, magnitude):
    return torch.stack([magnitude * real, magnitude * imag], -1)


@wrong("19.keep_phase", "view_as_real")
def keep_phase_as_complex(real, imag, magnitude):
    z = torch.complex(real, imag)
    return magnitude * z / z.abs()


@wrong("19.keep_phase", "side by side in a last dimension")
def keep_phase_in_front(real, imag, magnitude):
    scale = magnitude / (real**2 + imag**2).sqrt()
    return torch.stack([scale * real, scale * imag])


@wrong("19.keep_phase", "in place")
def keep_phase_in_place(real, imag, magnitude):
    magnitude /= (real**2 + imag**2).sqrt()
    return torch.stack([magnitude * real, magnitude * imag], -1)


# --- 19.over_time -----------------------------------------------------------------------------------------------------


@right("19.over_time")
def over_time(h, frames):
    return h.unflatten(0, (-1, frames)).permute(0, 3, 4, 1, 2).flatten(0, 2)


@right("19.over_time")
def over_time_einsum(h, frames):
    n, c, height, width = h.shape
    five = h.reshape(n // frames, frames, c, height, width)
    return torch.einsum("bfchw->bhwfc", five).reshape(-1, frames, c)


@right("19.over_time")
def over_time_loop(h, frames):
    lines = []
    for clip in h.split(frames):
        for i in range(h.shape[2]):
            lines += [clip[:, :, i, j] for j in range(h.shape[3])]
    return torch.stack(lines)


@wrong("19.over_time", "reshape does not move axes")
def over_time_reshape(h, frames):
    n, c, height, width = h.shape
    return h.reshape(n // frames * height * width, frames, c)


@wrong("19.over_time", "channels last")
def over_time_channels_first(h, frames):
    return over_time(h, frames).mT


@wrong("19.over_time", "a line for each place of each clip")
def over_time_not_flat(h, frames):
    return h.unflatten(0, (-1, frames)).permute(0, 3, 4, 1, 2)


@wrong("19.over_time", "`reshape` or `flatten`")
def over_time_view(h, frames):
    n, c, height, width = h.shape
    return h.view(n // frames, frames, c, height, width).permute(0, 3, 4, 1, 2).view(-1, frames, c)


@wrong("19.over_time", "every axis once")
def over_time_four_axes(h, frames):
    return h.unflatten(0, (-1, frames)).permute(0, 2, 3, 1).flatten(0, 2)
