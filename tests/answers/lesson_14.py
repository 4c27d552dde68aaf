"""Answers to the exercises of lesson 14."""

import math

import torch

from answers import right, wrong

# --- 14.v_from_u -----------------------------------------------------------------------------------------------------


@right("14.v_from_u")
def v_from_u(u, x_t, t):
    t = t.reshape(-1, *[1] * (x_t.ndim - 1))
    n = ((1 - t) ** 2 + t**2).sqrt()
    return n * u + (1 - 2 * t) / n * x_t


@right("14.v_from_u")
def v_from_u_by_x0_and_eps(u, x_t, t):
    t = t.view(len(t), *(1 for _ in x_t.shape[1:]))
    x_0, eps = x_t - t * u, x_t + (1 - t) * u
    return ((1 - t) * eps - t * x_0) / torch.hypot(1 - t, t)


@wrong("14.v_from_u", "divided by n")
def v_from_u_x_as_it_is(u, x_t, t):
    t = t.reshape(-1, *[1] * (x_t.ndim - 1))
    return ((1 - t) ** 2 + t**2).sqrt() * u + (1 - 2 * t) * x_t


@wrong("14.v_from_u", "in place")
def v_from_u_in_place(u, x_t, t):
    t = t.reshape(-1, *[1] * (x_t.ndim - 1))
    n = ((1 - t) ** 2 + t**2).sqrt()
    u *= n
    return u + (1 - 2 * t) / n * x_t


@wrong("14.v_from_u", "t runs along the width")
def v_from_u_flat_t(u, x_t, t):
    n = ((1 - t) ** 2 + t**2).sqrt()
    return n * u + (1 - 2 * t) / n * x_t


# --- 14.bend ---------------------------------------------------------------------------------------------------------


@right("14.bend")
def bend(path):
    k = len(path) - 1
    velocity = (path[:-1] - path[1:]) * k
    return (velocity - (path[0] - path[-1])).square().sum(-1).mean(0)


@right("14.bend")
def bend_by_variance(path):
    velocity = -path.diff(dim=0) * (path.shape[0] - 1)
    return velocity.var(0, unbiased=False).sum(-1)


@right("14.bend")
def bend_loop(path):
    k, total = len(path) - 1, 0
    for i in range(k):
        off = k * (path[i] - path[i + 1]) - (path[0] - path[k])
        total = total + (off**2).sum(1)
    return total / k


@wrong("14.bend", "but not one over k - 1")
def bend_unbiased(path):
    return ((path[:-1] - path[1:]) * (len(path) - 1)).var(0).sum(-1)


@wrong("14.bend", "one a particle")
def bend_no_sum(path):
    k = len(path) - 1
    return ((path[:-1] - path[1:]) * k - (path[0] - path[-1])).square().mean(0)


# --- 14.jump ---------------------------------------------------------------------------------------------------------


@right("14.jump")
def jump(x_t, x0_hat, t, r):
    t, r = (time.reshape(-1, *[1] * (x_t.ndim - 1)) for time in (t, r))
    return x_t - (t - r) * (x_t - x0_hat) / t


@right("14.jump")
def jump_by_parts(x_t, x0_hat, t, r):
    kept = (r / t).reshape(-1, *[1] * (x_t.ndim - 1))
    return kept * x_t + (1 - kept) * x0_hat


@right("14.jump")
def jump_ddim(x_t, x0_hat, t, r):
    t, r = (time.reshape(-1, *[1] * (x_t.ndim - 1)) for time in (t, r))
    eps = (x_t - (1 - t) * x0_hat) / t
    return (1 - r) * x0_hat + r * eps


@wrong("14.jump", "all the way to clean data")
def jump_to_the_guess(x_t, x0_hat, t, r):
    return x0_hat.clone()


@wrong("14.jump", "NaN or infinity")
def jump_over_r(x_t, x0_hat, t, r):
    t, r = (time.reshape(-1, *[1] * (x_t.ndim - 1)) for time in (t, r))
    return x_t - (t - r) * (x_t - x0_hat) / (r * t)


# --- 14.mean_flow_target ---------------------------------------------------------------------------------------------


@right("14.mean_flow_target")
def mean_flow_target(v, dudt, t, r):
    gap = (t - r).reshape(-1, *[1] * (v.ndim - 1))
    return (v - gap * dudt).detach()


@right("14.mean_flow_target")
def mean_flow_target_no_grad(v, dudt, t, r):
    with torch.no_grad():
        return torch.stack([a - (x - y) * b for a, b, x, y in zip(v, dudt, t, r, strict=True)])


@wrong("14.mean_flow_target", "a gradient flows back through the target")
def mean_flow_target_attached(v, dudt, t, r):
    return v - (t - r).reshape(-1, *[1] * (v.ndim - 1)) * dudt


@wrong("14.mean_flow_target", "a gradient flows back through the target")
def mean_flow_target_half_detached(v, dudt, t, r):
    return v - (t - r).reshape(-1, *[1] * (v.ndim - 1)) * dudt.detach()


@wrong("14.mean_flow_target", "the factor (t - r) in front of the derivative is missing")
def mean_flow_target_without_gap(v, dudt, t, r):
    return (v - dudt).detach()


@wrong("14.mean_flow_target", "t has one number a row")
def mean_flow_target_flat(v, dudt, t, r):
    return (v - (t - r) * dudt).detach()


# --- 14.slerp --------------------------------------------------------------------------------------------------------


@right("14.slerp")
def slerp(a, b, s):
    theta = ((a * b).sum() / (a.norm() * b.norm())).arccos()
    return (((1 - s) * theta).sin() * a + (s * theta).sin() * b) / theta.sin()


@right("14.slerp")
def slerp_flat(a, b, s):
    p, q = a.flatten(), b.flatten()
    theta = math.acos(torch.dot(p, q).item() / (p.norm().item() * q.norm().item()))
    first, second = math.sin((1 - s) * theta) / math.sin(theta), math.sin(s * theta) / math.sin(theta)
    return first * a + second * b


@wrong("14.slerp", "the straight line, whose middle is too short")
def slerp_is_lerp(a, b, s):
    return torch.lerp(a, b, s)


@wrong("14.slerp", "NaN or infinity")
def slerp_without_lengths(a, b, s):
    theta = (a * b).sum().arccos()
    return (((1 - s) * theta).sin() * a + (s * theta).sin() * b) / theta.sin()


@wrong("14.slerp", "takes any shape")
def slerp_by_dot(a, b, s):
    theta = (torch.dot(a, b) / (a.norm() * b.norm())).arccos()
    return (((1 - s) * theta).sin() * a + (s * theta).sin() * b) / theta.sin()


@wrong("14.slerp", "no `.flatten()` on the way out")
def slerp_left_flat(a, b, s):
    return slerp(a.flatten(), b.flatten(), s)
