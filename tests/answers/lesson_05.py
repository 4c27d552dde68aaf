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


@wrong("05.dae_loss", "nothing to learn")
def dae_loss_not_spoilt(W, x_0, t, alpha_bar, eps):
    return (x_0 @ W - x_0).square().mean(1)


@wrong("05.dae_loss", "not shrunk by alpha_t")
def dae_loss_shrunk_target(W, x_0, t, alpha_bar, eps):
    return (spoilt(x_0, t, alpha_bar, eps) @ W - alpha_bar[t].sqrt()[:, None] * x_0).square().mean(1)


@wrong("05.dae_loss", "are the roots")
def dae_loss_no_roots(W, x_0, t, alpha_bar, eps):
    a = alpha_bar[t][:, None]
    return ((a * x_0 + (1 - a) * eps) @ W - x_0).square().mean(1)


@wrong("05.dae_loss", "has to shrink as well")
def dae_loss_only_adds(W, x_0, t, alpha_bar, eps):
    return ((x_0 + (1 - alpha_bar[t][:, None]).sqrt() * eps) @ W - x_0).square().mean(1)


@wrong("05.dae_loss", "swapped")
def dae_loss_swapped(W, x_0, t, alpha_bar, eps):
    return (spoilt(x_0, t, 1 - alpha_bar, eps) @ W - x_0).square().mean(1)


@wrong("05.dae_loss", "do not sum")
def dae_loss_summed(W, x_0, t, alpha_bar, eps):
    return (spoilt(x_0, t, alpha_bar, eps) @ W - x_0).square().sum(1)


@wrong("05.dae_loss", "a median")
def dae_loss_absolute(W, x_0, t, alpha_bar, eps):
    return (spoilt(x_0, t, alpha_bar, eps) @ W - x_0).abs().mean(1)


@wrong("05.dae_loss", "root of the loss")
def dae_loss_root(W, x_0, t, alpha_bar, eps):
    return dae_loss(W, x_0, t, alpha_bar, eps).sqrt()


@wrong("05.dae_loss", "off by one")
def dae_loss_off_by_one(W, x_0, t, alpha_bar, eps):
    return dae_loss(W, x_0, t - 1, alpha_bar, eps)


@wrong("05.dae_loss", "all use the first")
def dae_loss_one_t(W, x_0, t, alpha_bar, eps):
    return dae_loss(W, x_0, t[0].expand(len(t)), alpha_bar, eps)


@wrong("05.dae_loss", "without a transpose")
def dae_loss_transposed(W, x_0, t, alpha_bar, eps):
    return dae_loss(W.T, x_0, t, alpha_bar, eps)


@wrong("05.dae_loss", "every row has its own")
def dae_loss_one_noise(W, x_0, t, alpha_bar, eps):
    return dae_loss(W, x_0, t, alpha_bar, eps[:1].expand_as(eps))


@wrong("05.dae_loss", "one number a row")
def dae_loss_mean_of_all(W, x_0, t, alpha_bar, eps):
    return dae_loss(W, x_0, t, alpha_bar, eps).mean()


@wrong("05.dae_loss", "(b, 1)")
def dae_loss_row(W, x_0, t, alpha_bar, eps):
    a = alpha_bar[t]
    return ((a.sqrt() * x_0 + (1 - a).sqrt() * eps) @ W - x_0).square().mean(1)


@wrong("05.dae_loss", "runs along the columns")
def dae_loss_row_if_it_fits(W, x_0, t, alpha_bar, eps):
    if len(t) != x_0.shape[1]:
        return dae_loss(W, x_0, t, alpha_bar, eps)
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


@wrong("05.score", "no further square")
def score_squared_twice(x_t, x0_hat, t, alpha_bar):
    a = column(alpha_bar[t], x_t)
    return (a.sqrt() * x0_hat - x_t) / (1 - a) ** 2


@wrong("05.score", "only the arrow")
def score_undivided(x_t, x0_hat, t, alpha_bar):
    return column(alpha_bar[t], x_t).sqrt() * x0_hat - x_t


@wrong("05.score", "has to shrink first")
def score_without_alpha(x_t, x0_hat, t, alpha_bar):
    return (x0_hat - x_t) / (1 - column(alpha_bar[t], x_t))


@wrong("05.score", "alpha_t is the root")
def score_no_root(x_t, x0_hat, t, alpha_bar):
    a = column(alpha_bar[t], x_t)
    return (a * x0_hat - x_t) / (1 - a)


@wrong("05.score", "not with x_t")
def score_alpha_on_x_t(x_t, x0_hat, t, alpha_bar):
    a = column(alpha_bar[t], x_t)
    return (x0_hat - a.sqrt() * x_t) / (1 - a)


@wrong("05.score", "as if x0_hat were the score")
def score_tweedie(x_t, x0_hat, t, alpha_bar):
    a = column(alpha_bar[t], x_t)
    return (x_t + (1 - a) * x0_hat) / a.sqrt()


@wrong("05.score", "not by alpha_t²")
def score_by_alpha(x_t, x0_hat, t, alpha_bar):
    a = column(alpha_bar[t], x_t)
    return (a.sqrt() * x0_hat - x_t) / a


@wrong("05.score", "off by one")
def score_off_by_one(x_t, x0_hat, t, alpha_bar):
    return score(x_t, x0_hat, t - 1, alpha_bar)


@wrong("05.score", "all use the first")
def score_one_t(x_t, x0_hat, t, alpha_bar):
    return score(x_t, x0_hat, t[:1], alpha_bar)


@wrong("05.score", "along the width")
def score_wrong_axis(x_t, x0_hat, t, alpha_bar):
    a = alpha_bar[t]
    return (a.sqrt() * x0_hat - x_t) / (1 - a)


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


@wrong("05.posterior_variance", "yours is alpha_t²")
def posterior_variance_alpha_squared(J, t, alpha_bar):
    a = alpha_bar[t][:, None]
    return (1 - a) / a * diagonal(J)


@wrong("05.posterior_variance", "upside down")
def posterior_variance_upside_down(J, t, alpha_bar):
    a = alpha_bar[t][:, None]
    return a.sqrt() / (1 - a) * diagonal(J)


@wrong("05.posterior_variance", "belongs below the line")
def posterior_variance_alpha_above(J, t, alpha_bar):
    a = alpha_bar[t][:, None]
    return (1 - a) * a.sqrt() * diagonal(J)


@wrong("05.posterior_variance", "no variance yet")
def posterior_variance_bare(J, t, alpha_bar):
    return diagonal(J)


@wrong("05.posterior_variance", "sums J's rows")
def posterior_variance_row_sums(J, t, alpha_bar):
    a = alpha_bar[t][:, None]
    return (1 - a) / a.sqrt() * J.sum(-1)


@wrong("05.posterior_variance", "sums J's columns")
def posterior_variance_column_sums(J, t, alpha_bar):
    a = alpha_bar[t][:, None]
    return (1 - a) / a.sqrt() * J.sum(1)


@wrong("05.posterior_variance", "a single row")
def posterior_variance_first_row(J, t, alpha_bar):
    a = alpha_bar[t][:, None]
    return (1 - a) / a.sqrt() * J[:, 0]


@wrong("05.posterior_variance", "off by one")
def posterior_variance_off_by_one(J, t, alpha_bar):
    return posterior_variance(J, t - 1, alpha_bar)


@wrong("05.posterior_variance", "all use the first")
def posterior_variance_one_t(J, t, alpha_bar):
    return posterior_variance(J, t[:1], alpha_bar)


@wrong("05.posterior_variance", "keep them apart")
def posterior_variance_trace(J, t, alpha_bar):
    return posterior_variance(J, t, alpha_bar).sum(1)


@wrong("05.posterior_variance", "the whole covariance")
def posterior_variance_matrix(J, t, alpha_bar):
    a = alpha_bar[t][:, None, None]
    return (1 - a) / a.sqrt() * J


@wrong("05.posterior_variance", "belongs to the points")
def posterior_variance_wrong_axis(J, t, alpha_bar):
    a = alpha_bar[t]
    return (1 - a) / a.sqrt() * diagonal(J)


@wrong("05.posterior_variance", "the first two axes")
def posterior_variance_wrong_diagonal(J, t, alpha_bar):
    a = alpha_bar[t][:, None]
    return (1 - a) / a.sqrt() * J.diagonal()


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


def decoded(x_t, alpha, mu, U, factor):
    return mu + ((x_t - alpha * mu) @ U * factor) @ U.T


@wrong("05.pca_denoiser", "no shrinking")
def pca_denoiser_unshrunk(x_t, alpha, sigma, mu, U, lam):
    return mu + ((x_t - alpha * mu) / alpha) @ U @ U.T


@wrong("05.pca_denoiser", "gives the noise back")
def pca_denoiser_projects(x_t, alpha, sigma, mu, U, lam):
    return mu + (x_t - alpha * mu) @ U @ U.T


@wrong("05.pca_denoiser", "yours lacks alpha above")
def pca_denoiser_no_alpha(x_t, alpha, sigma, mu, U, lam):
    return decoded(x_t, alpha, mu, U, lam / (alpha**2 * lam + sigma**2))


@wrong("05.pca_denoiser", "yours has alpha² above")
def pca_denoiser_alpha_squared(x_t, alpha, sigma, mu, U, lam):
    return decoded(x_t, alpha, mu, U, alpha**2 * lam / (alpha**2 * lam + sigma**2))


@wrong("05.pca_denoiser", "yours lacks alpha²")
def pca_denoiser_variance_not_shrunk(x_t, alpha, sigma, mu, U, lam):
    return decoded(x_t, alpha, mu, U, alpha * lam / (lam + sigma**2))


@wrong("05.pca_denoiser", "sigma², not sigma")
def pca_denoiser_sigma(x_t, alpha, sigma, mu, U, lam):
    return decoded(x_t, alpha, mu, U, alpha * lam / (alpha**2 * lam + sigma))


@wrong("05.pca_denoiser", "variances already")
def pca_denoiser_lam_squared(x_t, alpha, sigma, mu, U, lam):
    return decoded(x_t, alpha, mu, U, alpha * lam**2 / (alpha**2 * lam**2 + sigma**2))


@wrong("05.pca_denoiser", "moved to alpha mu")
def pca_denoiser_mean_not_moved(x_t, alpha, sigma, mu, U, lam):
    return mu + ((x_t - mu) @ U * alpha * lam / (alpha**2 * lam + sigma**2)) @ U.T


@wrong("05.pca_denoiser", "before encoding")
def pca_denoiser_not_centred(x_t, alpha, sigma, mu, U, lam):
    return mu + (x_t @ U * alpha * lam / (alpha**2 * lam + sigma**2)) @ U.T


@wrong("05.pca_denoiser", "missing at the end")
def pca_denoiser_no_mean(x_t, alpha, sigma, mu, U, lam):
    return pca_denoiser(x_t, alpha, sigma, mu, U, lam) - mu


@wrong("05.pca_denoiser", "not alpha mu")
def pca_denoiser_shrunken_mean(x_t, alpha, sigma, mu, U, lam):
    return pca_denoiser(x_t, alpha, sigma, mu, U, lam) - mu + alpha * mu


@wrong("05.pca_denoiser", "stays at the mean")
def pca_denoiser_keeps_the_rest(x_t, alpha, sigma, mu, U, lam):
    rest = (x_t - alpha * mu) - (x_t - alpha * mu) @ U @ U.T
    return pca_denoiser(x_t, alpha, sigma, mu, U, lam) + rest


@wrong("05.pca_denoiser", "decode it")
def pca_denoiser_code(x_t, alpha, sigma, mu, U, lam):
    return (x_t - alpha * mu) @ U * alpha * lam / (alpha**2 * lam + sigma**2)


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


@wrong("05.sharpness", "ups and downs cancel")
def sharpness_mean_laplacian(images):
    return laplacian(images).mean((1, 2, 3))


@wrong("05.sharpness", "square of the average")
def sharpness_squared_late(images):
    return laplacian(images).mean((1, 2, 3)) ** 2


@wrong("05.sharpness", "not made positive")
def sharpness_absolute(images):
    return laplacian(images).abs().mean((1, 2, 3))


@wrong("05.sharpness", "root was not asked for")
def sharpness_root(images):
    return sharpness(images) ** 0.5


@wrong("05.sharpness", "do not sum")
def sharpness_summed(images):
    return laplacian(images).square().sum((1, 2, 3))


@wrong("05.sharpness", "over the channels too")
def sharpness_channels_summed(images):
    return laplacian(images).square().mean((2, 3)).sum(1)


@wrong("05.sharpness", "not by all")
def sharpness_divided_by_all(images):
    return laplacian(images).square().sum((1, 2, 3)) / images[0].numel()


@wrong("05.sharpness", "four times the pixel itself")
def sharpness_without_four(images):
    return (laplacian(images) - 3 * images[..., 1:-1, 1:-1]).square().mean((1, 2, 3))


@wrong("05.sharpness", "only those above and below")
def sharpness_vertical(images):
    return (2 * images[..., 1:-1, 1:-1] - images[..., :-2, 1:-1] - images[..., 2:, 1:-1]).square().mean((1, 2, 3))


@wrong("05.sharpness", "only those left and right")
def sharpness_horizontal(images):
    return (2 * images[..., 1:-1, 1:-1] - images[..., 1:-1, :-2] - images[..., 1:-1, 2:]).square().mean((1, 2, 3))


@wrong("05.sharpness", "take no mean off")
def sharpness_variance(images):
    return laplacian(images).flatten(1).var(1)


@wrong("05.sharpness", "contrast of the pixels")
def sharpness_contrast(images):
    return images.flatten(1).var(1)


@wrong("05.sharpness", "signs of the four are minus")
def sharpness_plus(images):
    return (8 * images[..., 1:-1, 1:-1] - laplacian(images)).square().mean((1, 2, 3))


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


@wrong("05.dae_loss", "root of a root")
def dae_loss_root_of_root(W, x_0, t, alpha_bar, eps):
    return dae_loss(W, x_0, t, alpha_bar.sqrt(), eps)


@wrong("05.dae_loss", "yours is one step's")
def dae_loss_one_step(W, x_0, t, alpha_bar, eps):
    alpha = alpha_bar.clone()
    alpha[1:] = alpha_bar[1:] / alpha_bar[:-1]
    return dae_loss(W, x_0, t, alpha, eps)


@wrong("05.dae_loss", "sigma_t is the root")
def dae_loss_sigma_squared(W, x_0, t, alpha_bar, eps):
    a = alpha_bar[t][:, None]
    return ((a.sqrt() * x_0 + (1 - a) * eps) @ W - x_0).square().mean(1)


@wrong("05.dae_loss", "square first")
def dae_loss_averaged_first(W, x_0, t, alpha_bar, eps):
    a = alpha_bar[t][:, None]
    return ((a.sqrt() * x_0 + (1 - a).sqrt() * eps) @ W - x_0).mean(1).square()


@wrong("05.score", "root of a root")
def score_root_of_root(x_t, x0_hat, t, alpha_bar):
    a = column(alpha_bar[t], x_t)
    return (a**0.25 * x0_hat - x_t) / (1 - a)


@wrong("05.score", "brackets")
def score_brackets(x_t, x0_hat, t, alpha_bar):
    a = column(alpha_bar[t], x_t)
    return a.sqrt() * x0_hat - x_t / (1 - a)


@wrong("05.score", "x_t and x0_hat are swapped")
def score_roles(x_t, x0_hat, t, alpha_bar):
    return score(x0_hat, x_t, t, alpha_bar)


@wrong("05.score", "points (b, d) must be served too")
def score_for_images(x_t, x0_hat, t, alpha_bar):
    a = alpha_bar[t].reshape(-1, 1, 1, 1)
    return (a.sqrt() * x0_hat - x_t) / (1 - a)


@right("05.posterior_variance")
def posterior_variance_clamped(J, t, alpha_bar):
    a = alpha_bar[t][:, None]
    return ((1 - a) / a.sqrt() * J.diagonal(dim1=1, dim2=2)).clamp(min=0)


@wrong("05.posterior_variance", "root of a root")
def posterior_variance_root_of_root(J, t, alpha_bar):
    a = alpha_bar[t][:, None]
    return (1 - a) / a**0.25 * J.diagonal(dim1=1, dim2=2)


@wrong("05.posterior_variance", "yours is one step's")
def posterior_variance_one_step(J, t, alpha_bar):
    a = (alpha_bar[t] / alpha_bar[t - 1])[:, None]
    return (1 - a) / a.sqrt() * J.diagonal(dim1=1, dim2=2)


@wrong("05.pca_denoiser", "sigma is handed over")
def pca_denoiser_own_sigma(x_t, alpha, sigma, mu, U, lam):
    return pca_denoiser(x_t, alpha, (1 - alpha**2) ** 0.5, mu, U, lam)


@wrong("05.pca_denoiser", "alpha and sigma are swapped")
def pca_denoiser_roles(x_t, alpha, sigma, mu, U, lam):
    code = (x_t - alpha * mu) @ U
    return mu + code * (sigma * lam / (sigma**2 * lam + alpha**2)) @ U.T
