"""Answers to lesson 01."""

import math

import numpy as np
import torch

from answers import right, wrong

# --- 01.q_step -------------------------------------------------------------------------------------------------------


@right("01.q_step")
def q_step(x_prev, beta, eps):
    return (1 - beta) ** 0.5 * x_prev + beta**0.5 * eps


@right("01.q_step")
def q_step_with_math(x_prev, beta, eps):
    return math.sqrt(1 - beta) * x_prev + math.sqrt(beta) * eps


@right("01.q_step")
def q_step_image_by_image(x_prev, beta, eps):
    return torch.stack([np.sqrt(1 - beta) * x + np.sqrt(beta) * e for x, e in zip(x_prev, eps, strict=True)])


@wrong("01.q_step", "both factors are square roots")
def q_step_no_roots(x_prev, beta, eps):
    return (1 - beta) * x_prev + beta * eps


@wrong("01.q_step", "the signal's factor is a square root")
def q_step_no_root_on_signal(x_prev, beta, eps):
    return (1 - beta) * x_prev + beta**0.5 * eps


@wrong("01.q_step", "drew random numbers")
def q_step_own_noise(x_prev, beta, eps):
    return (1 - beta) ** 0.5 * x_prev + beta**0.5 * torch.randn_like(x_prev)


@wrong("01.q_step", "in place")
def q_step_in_place(x_prev, beta, eps):
    x_prev *= (1 - beta) ** 0.5
    return x_prev + beta**0.5 * eps


@wrong("01.q_step", "returned None")
def q_step_no_return(x_prev, beta, eps):
    (1 - beta) ** 0.5 * x_prev + beta**0.5 * eps


@wrong("01.q_step", "torch.float32")
def q_step_float(x_prev, beta, eps):
    return ((1 - beta) ** 0.5 * x_prev + beta**0.5 * eps).float()


@wrong("01.q_step", "torch.uint8")
def q_step_integer_images(x_prev, beta, eps):
    return ((1 - beta) ** 0.5 * x_prev + beta**0.5 * eps).byte()


# --- 01.alpha_bar ----------------------------------------------------------------------------------------------------


@right("01.alpha_bar")
def alpha_bar(betas):
    return torch.cat([torch.ones(1, dtype=betas.dtype), torch.cumprod(1 - betas, 0)])


@right("01.alpha_bar")
def alpha_bar_loop(betas):
    out = torch.ones(len(betas) + 1, dtype=betas.dtype)
    for t in range(1, len(betas) + 1):
        out[t] = out[t - 1] * (1 - betas[t - 1])
    return out


@right("01.alpha_bar")
def alpha_bar_in_logs(betas):
    return torch.nn.functional.pad(torch.log1p(-betas).cumsum(0), (1, 0)).exp()


@wrong("01.alpha_bar", "clean data, alpha_bar[0] = 1, is missing")
def alpha_bar_without_clean(betas):
    return torch.cumprod(1 - betas, 0)


@wrong("01.alpha_bar", "product of the betas")
def alpha_bar_of_betas(betas):
    return torch.cat([betas.new_ones(1), torch.cumprod(betas, 0)])


@wrong("01.alpha_bar", "in place")
def alpha_bar_in_place(betas):
    betas.neg_().add_(1)
    return torch.cat([betas.new_ones(1), torch.cumprod(betas, 0)])


@wrong("01.alpha_bar", "should be a tensor, got list")
def alpha_bar_list(betas):
    return [1.0, *torch.cumprod(1 - betas, 0).tolist()]


# --- 01.q_sample -----------------------------------------------------------------------------------------------------


def column(values, x):
    return values.reshape(-1, *[1] * (x.ndim - 1))


@right("01.q_sample")
def q_sample(x_0, t, alpha_bar, eps):
    ab = alpha_bar[t].reshape(-1, *[1] * (x_0.ndim - 1))
    return ab.sqrt() * x_0 + (1 - ab).sqrt() * eps


@right("01.q_sample")
def q_sample_loop(x_0, t, alpha_bar, eps):
    return torch.stack([alpha_bar[i] ** 0.5 * x + (1 - alpha_bar[i]) ** 0.5 * e for x, i, e in zip(x_0, t, eps)])


@right("01.q_sample")
def q_sample_einsum(x_0, t, alpha_bar, eps):
    ab = alpha_bar[t]
    return torch.einsum("b,b...->b...", ab.sqrt(), x_0) + torch.einsum("b,b...->b...", (1 - ab).sqrt(), eps)


@wrong("01.q_sample", "its square root")
def q_sample_no_root_on_signal(x_0, t, alpha_bar, eps):
    ab = column(alpha_bar[t], x_0)
    return ab * x_0 + (1 - ab).sqrt() * eps


@wrong("01.q_sample", "variance sags")
def q_sample_no_root_on_noise(x_0, t, alpha_bar, eps):
    ab = column(alpha_bar[t], x_0)
    return ab.sqrt() * x_0 + (1 - ab) * eps


@wrong("01.q_sample", "use t as it is")
def q_sample_t_plus_one(x_0, t, alpha_bar, eps):
    ab = column(alpha_bar[t + len(alpha_bar) - 1], x_0)
    return ab.sqrt() * x_0 + (1 - ab).sqrt() * eps


@wrong("01.q_sample", "drew random numbers")
def q_sample_ignores_eps(x_0, t, alpha_bar, eps):
    ab = column(alpha_bar[t], x_0)
    return ab.sqrt() * x_0 + (1 - ab).sqrt() * torch.randn_like(x_0)


@wrong("01.q_sample", "in place")
def q_sample_in_place(x_0, t, alpha_bar, eps):
    ab = column(alpha_bar[t], x_0)
    x_0.mul_(ab.sqrt())
    return x_0 + (1 - ab).sqrt() * eps


@wrong("01.q_sample", "no gradient")
def q_sample_detached(x_0, t, alpha_bar, eps):
    ab = column(alpha_bar[t], x_0)
    return ab.sqrt() * x_0.detach() + (1 - ab).sqrt() * eps


@wrong("01.q_sample", "as many dimensions as the images have")
def q_sample_right_for_one_shape(x_0, t, alpha_bar, eps):
    ab = alpha_bar[t].reshape(4, 1, 1, 1)
    return ab.sqrt() * x_0 + (1 - ab).sqrt() * eps


# --- 01.t_at_snr -----------------------------------------------------------------------------------------------------


@right("01.t_at_snr")
def t_at_snr(alpha_bar, snr):
    return int((alpha_bar / (1 - alpha_bar) <= snr).nonzero()[0])


@right("01.t_at_snr")
def t_at_snr_loop(alpha_bar, snr):
    for t in range(1, len(alpha_bar)):
        if alpha_bar[t] <= snr * (1 - alpha_bar[t]):
            return t


@right("01.t_at_snr")
def t_at_snr_argmax(alpha_bar, snr):
    return torch.argmax((alpha_bar.log() - (-alpha_bar).log1p() <= math.log(snr)).int())


@wrong("01.t_at_snr", "one too early")
def t_at_snr_last_above(alpha_bar, snr):
    return int((alpha_bar / (1 - alpha_bar) > snr).nonzero()[-1])


@wrong("01.t_at_snr", "one too late")
def t_at_snr_plus_one(alpha_bar, snr):
    return int((alpha_bar / (1 - alpha_bar) <= snr).nonzero()[0]) + 1


@wrong("01.t_at_snr", "should be one number")
def t_at_snr_all(alpha_bar, snr):
    return (alpha_bar / (1 - alpha_bar) <= snr).nonzero()


# --- 01.x0_from_eps --------------------------------------------------------------------------------------------------


@right("01.x0_from_eps")
def x0_from_eps(x_t, t, alpha_bar, eps):
    ab = column(alpha_bar[t], x_t)
    return (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()


@right("01.x0_from_eps")
def x0_from_eps_two_terms(x_t, t, alpha_bar, eps):
    ab = column(alpha_bar[t], x_t)
    return x_t / ab.sqrt() - (1 / ab - 1).sqrt() * eps


@wrong("01.x0_from_eps", "the factor that x_0 came with")
def x0_from_eps_no_root_below(x_t, t, alpha_bar, eps):
    ab = column(alpha_bar[t], x_t)
    return (x_t - (1 - ab).sqrt() * eps) / ab


@wrong("01.x0_from_eps", "came with sqrt(1 - alpha_bar), a root")
def x0_from_eps_no_root_on_noise(x_t, t, alpha_bar, eps):
    ab = column(alpha_bar[t], x_t)
    return (x_t - (1 - ab) * eps) / ab.sqrt()


@wrong("01.x0_from_eps", "in place")
def x0_from_eps_in_place(x_t, t, alpha_bar, eps):
    ab = column(alpha_bar[t], x_t)
    x_t -= (1 - ab).sqrt() * eps
    return x_t / ab.sqrt()


# --- what readers and attackers found ---------------------------------------------------------------------------------


@wrong("01.q_step", "argument number 2 is a Python number")
def q_step_torch_sqrt(x_prev, beta, eps):
    return torch.sqrt(1 - beta) * x_prev + torch.sqrt(beta) * eps


@wrong("01.q_step", "is a Python number")
def q_step_method(x_prev, beta, eps):
    return (1 - beta).sqrt() * x_prev + beta.sqrt() * eps


@wrong("01.q_step", "about six digits")
def q_step_constant_in_float32(x_prev, beta, eps):
    return torch.tensor(1 - beta).sqrt().to(x_prev) * x_prev + torch.tensor(beta).sqrt() * eps


@right("01.q_step")
def q_step_with_the_dtype(x_prev, beta, eps):
    beta = torch.tensor(beta, dtype=x_prev.dtype)
    return torch.sqrt(1 - beta) * x_prev + torch.sqrt(beta) * eps


@right("01.q_step")
def q_step_drawing_in_vain(x_prev, beta, eps):
    noise = torch.randn_like(eps)
    noise.copy_(eps)
    return (1 - beta) ** 0.5 * x_prev + beta**0.5 * noise


@wrong("01.q_step", "seeded the stream")
def q_step_seeding(x_prev, beta, eps):
    torch.manual_seed(0)
    return q_step(x_prev, beta, eps)


@wrong("01.q_sample", "points (b, d) must be served too")
def q_sample_for_images(x_0, t, alpha_bar, eps):
    ab = alpha_bar[t].reshape(-1, 1, 1, 1)
    return ab.sqrt() * x_0 + (1 - ab).sqrt() * eps


@wrong("01.q_sample", "about six digits")
def q_sample_table_in_float32(x_0, t, alpha_bar, eps):
    ab = column(alpha_bar.float()[t], x_0)
    return ab.sqrt() * x_0 + (1 - ab).sqrt() * eps


@wrong("01.t_at_snr", "nearest ratio")
def t_at_snr_nearest(alpha_bar, snr):
    return int((alpha_bar / (1 - alpha_bar) - snr).abs().argmin())


@wrong("01.t_at_snr", "at *or* below")
def t_at_snr_strict(alpha_bar, snr):
    return int((alpha_bar / (1 - alpha_bar) < snr).nonzero()[0])


@right("01.t_at_snr")
def t_at_snr_numpy(alpha_bar, snr):
    ab = alpha_bar.numpy()
    return np.flatnonzero(ab <= snr * (1 - ab))[0]


@right("01.t_at_snr")
def t_at_snr_in_decibels(alpha_bar, snr):
    return int((10 * (alpha_bar / (1 - alpha_bar)).log10() <= 10 * math.log10(snr)).nonzero()[0])


@wrong("01.x0_from_eps", "points (b, d) must be served too")
def x0_from_eps_for_images(x_t, t, alpha_bar, eps):
    ab = alpha_bar[t][:, None, None, None]
    return (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()


@wrong("01.q_sample", "NumPy knows no gradients")
def q_sample_by_numpy(x_0, t, alpha_bar, eps):
    a = alpha_bar[t].numpy().reshape(-1, *[1] * (x_0.ndim - 1))
    return torch.from_numpy(a**0.5 * x_0.numpy() + (1 - a) ** 0.5 * eps.numpy())


@wrong("01.t_at_snr", "holds nowhere")
def t_at_snr_solved_wrongly(alpha_bar, snr):
    return int((alpha_bar <= snr / (1 - snr)).nonzero()[0])
