"""Answers to lesson 05."""

import torch
from torch.nn import functional as F

from answers import right, wrong

# --- 05.dae_loss -----------------------------------------------------------------------------------------------------


def spoilt(x_0, t, alpha_bar, eps):
    a = alpha_bar[t][:, None]
    return a.sqrt() * x_0 + (1 - a).sqrt() * eps


@right("05.dae_loss")
def dae_loss(W, x_0, t, alpha_bar, eps):
    a = alpha_bar[t][:, None]
    x_t = a.sqrt() * x_0 + (1 - a).sqrt() * eps
    return (x_t @ W - x_0).square().mean(1)


@right("05.dae_loss")
def dae_loss_loop(W, x_0, t, alpha_bar, eps):
    out = []
    for x, e, i in zip(x_0, eps, t.tolist()):
        noisy = alpha_bar[i] ** 0.5 * x + (1 - alpha_bar[i]) ** 0.5 * e
        out.append(((W.T @ noisy - x) ** 2).sum() / len(x))
    return torch.stack(out)


@right("05.dae_loss")
def dae_loss_by_torch(W, x_0, t, alpha_bar, eps):
    alpha, sigma = alpha_bar[t].sqrt().unsqueeze(1), (1 - alpha_bar[t]).sqrt().unsqueeze(1)
    return F.mse_loss((alpha * x_0 + sigma * eps) @ W, x_0, reduction="none").mean(-1)


@wrong("05.dae_loss", "a plain autoencoder")
def dae_loss_copies(W, x_0, t, alpha_bar, eps):
    x_t = spoilt(x_0, t, alpha_bar, eps)
    return (x_t @ W - x_t).square().mean(1)


@wrong("05.dae_loss", "yours is the noise")
def dae_loss_of_eps(W, x_0, t, alpha_bar, eps):
    return (spoilt(x_0, t, alpha_bar, eps) @ W - eps).square().mean(1)


@wrong("05.dae_loss", "one number a row")
def dae_loss_mean_of_all(W, x_0, t, alpha_bar, eps):
    return dae_loss(W, x_0, t, alpha_bar, eps).mean()


@wrong("05.dae_loss", "(b, 1)")
def dae_loss_row(W, x_0, t, alpha_bar, eps):
    a = alpha_bar[t]
    return ((a.sqrt() * x_0 + (1 - a).sqrt() * eps) @ W - x_0).square().mean(1)


@wrong("05.dae_loss", "no gradient")
def dae_loss_detached(W, x_0, t, alpha_bar, eps):
    return dae_loss(W.detach(), x_0, t, alpha_bar, eps)


@wrong("05.dae_loss", "numbers of its own")
def dae_loss_own_noise(W, x_0, t, alpha_bar, eps):
    return dae_loss(W, x_0, t, alpha_bar, torch.randn_like(eps))


@wrong("05.dae_loss", "in place")
def dae_loss_in_place(W, x_0, t, alpha_bar, eps):
    a = alpha_bar[t][:, None]
    clean = x_0.clone()
    x_0 *= a.sqrt()
    return ((x_0 + (1 - a).sqrt() * eps) @ W - clean).square().mean(1)


# --- 05.score --------------------------------------------------------------------------------------------------------


def column(values, x):
    return values.reshape(-1, *[1] * (x.ndim - 1))


@right("05.score")
def score(x_t, x0_hat, t, alpha_bar):
    a = column(alpha_bar[t], x_t)
    return (a.sqrt() * x0_hat - x_t) / (1 - a)


@right("05.score")
def score_by_way_of_eps(x_t, x0_hat, t, alpha_bar):
    alpha, sigma = column(alpha_bar[t] ** 0.5, x_t), column((1 - alpha_bar[t]) ** 0.5, x_t)
    return -((x_t - alpha * x0_hat) / sigma) / sigma


@right("05.score")
def score_loop(x_t, x0_hat, t, alpha_bar):
    rows = [(alpha_bar[i].sqrt() * guess - x) / (1 - alpha_bar[i]) for x, guess, i in zip(x_t, x0_hat, t.tolist())]
    return torch.stack(rows)


@wrong("05.score", "the sign")
def score_sign(x_t, x0_hat, t, alpha_bar):
    return -score(x_t, x0_hat, t, alpha_bar)


@wrong("05.score", "not by sigma_t:")
def score_by_sigma(x_t, x0_hat, t, alpha_bar):
    a = column(alpha_bar[t], x_t)
    return (a.sqrt() * x0_hat - x_t) / (1 - a).sqrt()


@wrong("05.score", "(b, 1, 1, 1)")
def score_too_few_dimensions(x_t, x0_hat, t, alpha_bar):
    a = alpha_bar[t].reshape(-1, 1, 1)
    return (a.sqrt() * x0_hat - x_t) / (1 - a)


@wrong("05.score", "in place")
def score_in_place(x_t, x0_hat, t, alpha_bar):
    a = column(alpha_bar[t], x_t)
    x0_hat *= a.sqrt()
    return (x0_hat - x_t) / (1 - a)


# --- 05.posterior_variance -------------------------------------------------------------------------------------------


@right("05.posterior_variance")
def posterior_variance(J, t, alpha_bar):
    a = alpha_bar[t][:, None]
    return (1 - a) / a.sqrt() * J.diagonal(dim1=1, dim2=2)


@right("05.posterior_variance")
def posterior_variance_einsum(J, t, alpha_bar):
    return torch.einsum("b,bii->bi", (1 - alpha_bar[t]) / alpha_bar[t] ** 0.5, J)


@right("05.posterior_variance")
def posterior_variance_loop(J, t, alpha_bar):
    return torch.stack([(1 - alpha_bar[i]) / alpha_bar[i].sqrt() * torch.diag(j) for j, i in zip(J, t.tolist())])


def diagonal(J):
    return torch.einsum("bii->bi", J)


@wrong("05.posterior_variance", "yours lacks the alpha_t")
def posterior_variance_no_alpha(J, t, alpha_bar):
    return (1 - alpha_bar[t][:, None]) * diagonal(J)


@wrong("05.posterior_variance", "yours is sigma_t")
def posterior_variance_sigma(J, t, alpha_bar):
    a = alpha_bar[t][:, None]
    return (1 - a).sqrt() / a.sqrt() * diagonal(J)


@wrong("05.posterior_variance", "in place")
def posterior_variance_in_place(J, t, alpha_bar):
    a = alpha_bar[t][:, None, None]
    J *= (1 - a) / a.sqrt()
    return diagonal(J)


# --- 05.pca_denoiser -------------------------------------------------------------------------------------------------


@right("05.pca_denoiser")
def pca_denoiser(x_t, alpha, sigma, mu, U, lam):
    code = (x_t - alpha * mu) @ U
    return mu + (code * alpha * lam / (alpha**2 * lam + sigma**2)) @ U.T


@right("05.pca_denoiser")
def pca_denoiser_by_matrix(x_t, alpha, sigma, mu, U, lam):
    A = U @ torch.diag(alpha * lam / (alpha**2 * lam + sigma**2)) @ U.T
    return (A @ (x_t - alpha * mu).T).T + mu


@right("05.pca_denoiser")
def pca_denoiser_loop(x_t, alpha, sigma, mu, U, lam):
    out = mu.expand_as(x_t).clone()
    for u, variance in zip(U.T, lam):
        along = (x_t - alpha * mu) @ u
        out = out + (along * alpha / (alpha**2 + sigma**2 / variance))[:, None] * u
    return out


@wrong("05.pca_denoiser", "no shrinking")
def pca_denoiser_unshrunk(x_t, alpha, sigma, mu, U, lam):
    return mu + ((x_t - alpha * mu) / alpha) @ U @ U.T


@wrong("05.pca_denoiser", "gives the noise back")
def pca_denoiser_projects(x_t, alpha, sigma, mu, U, lam):
    return mu + (x_t - alpha * mu) @ U @ U.T


@wrong("05.pca_denoiser", "(b, d) times (d, k)")
def pca_denoiser_transposed(x_t, alpha, sigma, mu, U, lam):
    return mu + ((x_t - alpha * mu) @ U.T * alpha * lam / (alpha**2 * lam + sigma**2)) @ U


@wrong("05.pca_denoiser", "multiply before decoding")
def pca_denoiser_shrinks_pixels(x_t, alpha, sigma, mu, U, lam):
    return mu + ((x_t - alpha * mu) @ U @ U.T) * alpha * lam / (alpha**2 * lam + sigma**2)


@wrong("05.pca_denoiser", "in place")
def pca_denoiser_in_place(x_t, alpha, sigma, mu, U, lam):
    x_t -= alpha * mu
    return mu + (x_t @ U * alpha * lam / (alpha**2 * lam + sigma**2)) @ U.T


# --- 05.sharpness ----------------------------------------------------------------------------------------------------


def laplacian(x):
    sides = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return 4 * x[..., 1:-1, 1:-1] - sides


@right("05.sharpness")
def sharpness(images):
    return laplacian(images).square().mean((1, 2, 3))


@right("05.sharpness")
def sharpness_by_convolution(images):
    kernel = torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=images.dtype)[None, None]
    b, c, h, w = images.shape
    return F.conv2d(images.reshape(b * c, 1, h, w), kernel).reshape(b, -1).square().mean(1)


@right("05.sharpness")
def sharpness_by_diff(images):
    bends = images.diff(n=2, dim=-2)[..., :, 1:-1] + images.diff(n=2, dim=-1)[..., 1:-1, :]
    return (bends**2).flatten(1).mean(1)


@wrong("05.sharpness", "pads the border")
def sharpness_padded(images):
    return laplacian(F.pad(images, (1, 1, 1, 1))).square().mean((1, 2, 3))


@wrong("05.sharpness", "`roll` makes the left border")
def sharpness_rolled(images):
    around = images.roll(1, -1) + images.roll(-1, -1) + images.roll(1, -2) + images.roll(-1, -2)
    return (4 * images - around).square().mean((1, 2, 3))


@wrong("05.sharpness", "one number an image")
def sharpness_of_the_batch(images):
    return laplacian(images).square().mean()


@wrong("05.sharpness", "one number an image")
def sharpness_by_channel(images):
    return laplacian(images).square().mean((2, 3))


@wrong("05.sharpness", "slices need no kernel")
def sharpness_one_channel_only(images):
    kernel = torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=images.dtype)[None, None]
    return F.conv2d(images, kernel).square().mean((1, 2, 3))


@wrong("05.sharpness", "all five windows are as large")
def sharpness_uneven_windows(images):
    sides = images[..., :-2, 1:-1] + images[..., 2:, 1:-1] + images[..., :-2] + images[..., 2:]
    return (4 * images[..., 1:-1, 1:-1] - sides).square().mean((1, 2, 3))


# --- what readers and attackers found ---------------------------------------------------------------------------------


@wrong("05.score", "points (b, d) must be served too")
def score_for_images(x_t, x0_hat, t, alpha_bar):
    a = alpha_bar[t].reshape(-1, 1, 1, 1)
    return (a.sqrt() * x0_hat - x_t) / (1 - a)


@right("05.posterior_variance")
def posterior_variance_clamped(J, t, alpha_bar):
    a = alpha_bar[t][:, None]
    return ((1 - a) / a.sqrt() * J.diagonal(dim1=1, dim2=2)).clamp(min=0)


@wrong("05.pca_denoiser", "sigma is handed over")
def pca_denoiser_own_sigma(x_t, alpha, sigma, mu, U, lam):
    return pca_denoiser(x_t, alpha, (1 - alpha**2) ** 0.5, mu, U, lam)
