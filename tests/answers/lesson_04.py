"""Answers to lesson 04."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from answers import right, wrong


def column(values, x):
    return values.reshape(-1, *[1] * (x.ndim - 1))


# --- 04.receptive_field ----------------------------------------------------------------------------------------------


@right("04.receptive_field")
def receptive_field(kernels, strides):
    sees, apart = 1, 1
    for kernel, stride in zip(kernels, strides):
        sees += (kernel - 1) * apart
        apart *= stride
    return sees


@right("04.receptive_field")
def receptive_field_backwards(kernels, strides):
    """From the output to the input: n pixels of a layer's output need stride (n - 1) + kernel of its input."""
    sees = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides)):
        sees = stride * (sees - 1) + kernel
    return sees


@right("04.receptive_field")
def receptive_field_as_a_sum(kernels, strides):
    return torch.tensor(1 + sum((k - 1) * math.prod(strides[:i]) for i, k in enumerate(kernels)))


@wrong("04.receptive_field", "adds k - 1 to what is seen")
def receptive_field_adds_k(kernels, strides):
    return 1 + sum(k * math.prod(strides[:i]) for i, k in enumerate(kernels))


@wrong("04.receptive_field", "the 1 is missing")
def receptive_field_no_one(kernels, strides):
    return sum((k - 1) * math.prod(strides[:i]) for i, k in enumerate(kernels))


@wrong("04.receptive_field", "should be one number")
def receptive_field_of_each_layer(kernels, strides):
    return [receptive_field(kernels[:i], strides[:i]) for i in range(1, len(kernels) + 1)]


# --- 04.descend ------------------------------------------------------------------------------------------------------


def gradient_of(kernel, x_t, x_0, loss=torch.mean):
    kernel = kernel.detach().requires_grad_()
    return torch.autograd.grad(loss((F.conv2d(x_t, kernel, padding=1) - x_0) ** 2), kernel)[0]


@right("04.descend")
def descend(kernel, x_t, x_0, lr):
    kernel = kernel.detach().requires_grad_()
    loss = (F.conv2d(x_t, kernel, padding=1) - x_0).square().mean()
    (gradient,) = torch.autograd.grad(loss, kernel)
    return (kernel - lr * gradient).detach()


@right("04.descend")
def descend_with_an_optimizer(kernel, x_t, x_0, lr):
    weight = torch.nn.Parameter(kernel.clone())
    optimizer = torch.optim.SGD([weight], lr=lr)
    optimizer.zero_grad()
    F.mse_loss(F.conv2d(x_t, weight, padding=1), x_0).backward()
    optimizer.step()
    return weight


@right("04.descend")
def descend_without_autograd(kernel, x_t, x_0, lr):
    error = 2 * (F.conv2d(x_t, kernel, padding=1) - x_0) / x_0.numel()
    height, width = x_t.shape[-2:]
    padded, step = F.pad(x_t, (1, 1, 1, 1)), torch.zeros_like(kernel)
    for i in range(3):
        for j in range(3):
            step[:, :, i, j] = torch.einsum("bohw,bchw->oc", error, padded[:, :, i : i + height, j : j + width])
    return kernel - lr * step


@wrong("04.descend", "that climbs")
def descend_climbs(kernel, x_t, x_0, lr):
    return kernel + lr * gradient_of(kernel, x_t, x_0)


@wrong("04.descend", "that is the gradient")
def descend_gradient(kernel, x_t, x_0, lr):
    return gradient_of(kernel, x_t, x_0)


@wrong("04.descend", "gradients of the kernel are wanted")
def descend_no_bookkeeping(kernel, x_t, x_0, lr):
    loss = (F.conv2d(x_t, kernel, padding=1) - x_0).square().mean()
    return kernel - lr * torch.autograd.grad(loss, kernel)[0]


@wrong("04.descend", "must be one number")
def descend_unreduced(kernel, x_t, x_0, lr):
    kernel = kernel.detach().requires_grad_()
    loss = (F.conv2d(x_t, kernel, padding=1) - x_0).square()
    return kernel - lr * torch.autograd.grad(loss, kernel)[0]


@wrong("04.descend", "a tuple, also of one")
def descend_tuple(kernel, x_t, x_0, lr):
    kernel = kernel.detach().requires_grad_()
    loss = (F.conv2d(x_t, kernel, padding=1) - x_0).square().mean()
    return kernel - lr * torch.autograd.grad(loss, kernel)


@wrong("04.descend", "without `padding=1`")
def descend_no_padding(kernel, x_t, x_0, lr):
    kernel = kernel.detach().requires_grad_()
    loss = (F.conv2d(x_t, kernel) - x_0).square().mean()
    return kernel - lr * torch.autograd.grad(loss, kernel)[0]


@wrong("04.descend", "in place")
def descend_in_place(kernel, x_t, x_0, lr):
    g = gradient_of(kernel, x_t, x_0)
    kernel = kernel.detach()
    kernel -= lr * g
    return kernel


# --- 04.embedding ----------------------------------------------------------------------------------------------------


def waves(position, frequency):
    angle = position[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)


@right("04.embedding")
def embedding(position, dim, longest):
    n = dim // 2
    return waves(position, longest ** (-torch.arange(n) / (n - 1)))


@right("04.embedding")
def embedding_by_logspace(position, dim, longest):
    return waves(position, torch.logspace(0, -math.log10(longest), dim // 2))


@right("04.embedding")
def embedding_loop(position, dim, longest):
    n = dim // 2
    rows = []
    for p in position.tolist():
        angles = [p / longest ** (i / (n - 1)) for i in range(n)]
        rows.append([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
    return torch.tensor(rows)


@wrong("04.embedding", "falls short of")
def embedding_over_n(position, dim, longest):
    n = dim // 2
    return waves(position, longest ** (-torch.arange(n) / n))


@wrong("04.embedding", "fall from 1 to 1 / longest")
def embedding_rising(position, dim, longest):
    n = dim // 2
    return waves(position, longest ** (torch.arange(n) / (n - 1)))


@wrong("04.embedding", "their product is (b, n)")
def embedding_no_outer_product(position, dim, longest):
    n = dim // 2
    angle = position * longest ** (-torch.arange(n) / (n - 1))
    return torch.cat([angle.cos(), angle.sin()])


# --- 04.film ---------------------------------------------------------------------------------------------------------


@right("04.film")
def film(h, scale, shift):
    return (1 + scale[:, :, None, None]) * h + shift[:, :, None, None]


@right("04.film")
def film_einsum(h, scale, shift):
    return h + torch.einsum("bchw,bc->bchw", h, scale) + shift.unsqueeze(-1).unsqueeze(-1)


@right("04.film")
def film_loop(h, scale, shift):
    return torch.stack([torch.stack([(1 + a) * m + b for m, a, b in zip(*image)]) for image in zip(h, scale, shift)])


@wrong("04.film", "the 1 is missing")
def film_no_one(h, scale, shift):
    return scale[:, :, None, None] * h + shift[:, :, None, None]


@wrong("04.film", "swapped")
def film_swapped(h, scale, shift):
    return film(h, shift, scale)


@wrong("04.film", "in place")
def film_in_place(h, scale, shift):
    h *= 1 + scale[:, :, None, None]
    return h + shift[:, :, None, None]


# --- 04.precondition -------------------------------------------------------------------------------------------------


@right("04.precondition")
def precondition(x_t, F, t, alpha_bar, mean, std):
    a = column(alpha_bar[t], x_t)
    variance = a * std**2 + 1 - a
    line = mean + a.sqrt() * std**2 / variance * (x_t - a.sqrt() * mean)
    return line - std * ((1 - a) / variance).sqrt() * F


@right("04.precondition")
def precondition_loop(x_t, F, t, alpha_bar, mean, std):
    out = []
    for x, said, i in zip(x_t, F, t.tolist()):
        a = alpha_bar[i].item()
        alpha, sigma = a**0.5, (1 - a) ** 0.5
        size = math.hypot(alpha * std, sigma)
        out.append(mean + alpha * (std / size) ** 2 * (x - alpha * mean) - std * sigma / size * said)
    return torch.stack(out)


@right("04.precondition")
def precondition_by_angle(x_t, F, t, alpha_bar, mean, std):
    """With the data brought to variance 1, F is the velocity of another schedule: turn back by its angle."""
    a = column(alpha_bar[t], x_t)
    signal, noise = a.sqrt() * std, (1 - a).sqrt()
    size = (signal**2 + noise**2).sqrt()
    unit = (x_t - a.sqrt() * mean) / size
    return mean + std * (signal / size * unit - noise / size * F)


@wrong("04.precondition", "the sign")
def precondition_sign(x_t, F, t, alpha_bar, mean, std):
    return precondition(x_t, -F, t, alpha_bar, mean, std)


@wrong("04.precondition", "the line is missing")
def precondition_no_line(x_t, F, t, alpha_bar, mean, std):
    a = column(alpha_bar[t], x_t)
    return mean - std * ((1 - a) / (a * std**2 + 1 - a)).sqrt() * F


def parts(x_t, t, alpha_bar, std):
    a = column(alpha_bar[t], x_t)
    variance = a * std**2 + 1 - a
    return a, variance, a.sqrt() * std**2 / variance, std * ((1 - a) / variance).sqrt()


@wrong("04.precondition", "in place")
def precondition_in_place(x_t, F, t, alpha_bar, mean, std):
    a, _, skip, out = parts(x_t, t, alpha_bar, std)
    x_t -= a.sqrt() * mean
    return mean + skip * x_t - out * F


# --- what readers and attackers found ---------------------------------------------------------------------------------


@right("04.descend")
def descend_with_a_layer(kernel, x_t, x_0, lr):
    layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, bias=False)
    layer.weight.data = kernel.clone()
    (layer(x_t) - x_0).square().mean().backward()
    return layer.weight.detach() - lr * layer.weight.grad


@right("04.descend")
def descend_with_a_layer_and_an_optimizer(kernel, x_t, x_0, lr):
    layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, bias=False).to(x_t.dtype)
    with torch.no_grad():
        layer.weight.copy_(kernel)
    optimizer = torch.optim.SGD(layer.parameters(), lr)
    F.mse_loss(layer(x_t), x_0).backward()
    optimizer.step()
    return layer.weight.detach()


@wrong("04.descend", "drew random numbers")
def descend_from_random_weights(kernel, x_t, x_0, lr):
    layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, bias=False).to(x_t.dtype)
    F.mse_loss(layer(x_t), x_0).backward()
    return kernel - lr * layer.weight.grad


@wrong("04.receptive_field", "right shape and the wrong numbers")
def receptive_field_of_odd_kernels(kernels, strides):
    field, apart = 1, 1
    for k, s in zip(kernels, strides):
        field, apart = field + 2 * ((k - 1) // 2) * apart, apart * s
    return field


@wrong("04.precondition", "points (b, d) must be served too")
def precondition_for_images(x_t, F, t, alpha_bar, mean, std):
    a = alpha_bar[t][:, None, None, None]
    variance = a * std**2 + 1 - a
    c_skip, c_out = a.sqrt() * std**2 / variance, std * ((1 - a) / variance).sqrt()
    return mean + c_skip * (x_t - a.sqrt() * mean) - c_out * F
