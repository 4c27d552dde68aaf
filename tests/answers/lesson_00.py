"""Answers to lesson 00."""

import torch

from answers import right, wrong

# --- 00.mix ----------------------------------------------------------------------------------------------------------


@right("00.mix")
def mix(x_0, eps, alpha_t, sigma_t):
    return alpha_t * x_0 + sigma_t * eps


@right("00.mix")
def mix_with_torch_functions(x_0, eps, alpha_t, sigma_t):
    return torch.add(torch.mul(x_0, alpha_t), eps, alpha=sigma_t)


@right("00.mix")
def mix_picture_by_picture(x_0, eps, alpha_t, sigma_t):
    x_t = torch.empty_like(x_0)
    for i in range(len(x_0)):
        x_t[i] = x_0[i] * alpha_t + eps[i] * sigma_t
    return x_t


@wrong("00.mix", "cross-fade")
def mix_cross_fade(x_0, eps, alpha_t, sigma_t):
    return alpha_t * x_0 + (1 - alpha_t) * eps


@wrong("00.mix", "cross-fade")
def mix_lerp(x_0, eps, alpha_t, sigma_t):
    return torch.lerp(eps, x_0, alpha_t)


@wrong("00.mix", "drew random numbers")
def mix_own_noise(x_0, eps, alpha_t, sigma_t):
    return alpha_t * x_0 + sigma_t * torch.randn_like(x_0)


@wrong("00.mix", "in place")
def mix_in_place(x_0, eps, alpha_t, sigma_t):
    x_0 *= alpha_t
    return x_0 + sigma_t * eps


@wrong("00.mix", "returned None")
def mix_no_return(x_0, eps, alpha_t, sigma_t):
    alpha_t * x_0 + sigma_t * eps


@wrong("00.mix", "torch.float32")
def mix_float(x_0, eps, alpha_t, sigma_t):
    return (alpha_t * x_0 + sigma_t * eps).float()


# --- what readers and attackers found ---------------------------------------------------------------------------------


@wrong("00.mix", "a factor of 2")
def mix_doubled(x_0, eps, alpha_t, sigma_t):
    return 2 * (alpha_t * x_0 + sigma_t * eps)


@wrong("00.mix", "the sign")
def mix_negated(x_0, eps, alpha_t, sigma_t):
    return -alpha_t * x_0 - sigma_t * eps


@wrong("00.mix", "wrong by one factor")
def mix_normalised(x_0, eps, alpha_t, sigma_t):
    return (alpha_t * x_0 + sigma_t * eps) / (alpha_t + sigma_t)


@wrong("00.mix", "wrong by one amount")
def mix_shifted(x_0, eps, alpha_t, sigma_t):
    return alpha_t * x_0 + sigma_t * eps + 1


@wrong("00.mix", "by one factor")
def mix_to_unit_variance(x_0, eps, alpha_t, sigma_t):
    return (alpha_t * x_0 + sigma_t * eps) / (alpha_t**2 + sigma_t**2) ** 0.5
