"""Checks of lesson 05, the denoising autoencoder."""

import torch
from torch import Tensor

from course_utils.exercises.answer import Answer, Wrong
from course_utils.exercises.compare import (
    AS_COLUMN,
    BROADCASTING,
    CASES,
    Draw,
    column,
    expect,
    random_schedule,
)
from course_utils.exercises.engine import exercise
from course_utils.exercises.slips import lookups
from course_utils.parameterizations import score_from_x0

_MATRIX = {
    "The size of tensor": "alpha_bar[t] has shape (b,); before it can multiply rows (b, d) it must become (b, 1)",
    "too many indices": "alpha_bar[t] has shape (b,): `alpha_bar[t][:, None]` is (b, 1)",
    "must match": "alpha_bar[t] has shape (b,); before it can multiply rows (b, d) it must become (b, 1)",
    "mat1 and mat2": "the guess is `x_t @ W`: rows of (b, d) times (d, d)",
    "out of bounds": BROADCASTING["out of bounds"],
}


@exercise("05.dae_loss", "The loss of a denoising autoencoder", error_hints=_MATRIX)
def _(answer: Answer, draw: Draw) -> None:
    # At b = d a t that runs along the wrong axis passes PyTorch unnoticed.
    for b, d, dtype in [(5, 3, torch.float64), (4, 4, torch.float64), (3, 6, torch.float32), (2, 5, torch.float64)]:
        schedule = random_schedule(draw, dtype=dtype)
        W, x_0, eps = draw.normal(d, d, dtype=dtype), draw.normal(b, d, dtype=dtype), draw.normal(b, d, dtype=dtype)
        t = draw.times(2, schedule.T, b)
        ab = schedule.alpha_bar.to(dtype)

        def loss(a: Tensor, W: Tensor = W, x_0: Tensor = x_0, eps: Tensor = eps) -> Tensor:
            return ((a.sqrt() * x_0 + (1 - a).sqrt() * eps) @ W - x_0).square().mean(1)

        a = ab[t][:, None]
        x_t = a.sqrt() * x_0 + (1 - a).sqrt() * eps
        right = loss(a)
        mistakes = {
            "the target is the clean x_0; to ask for x_t is a plain autoencoder, and copying solves it": (x_t @ W - x_t)
            .square()
            .mean(1),
            "the target is the clean x_0; yours is the noise": (x_t @ W - eps).square().mean(1),
            "the matrix gets the spoilt x_t; yours got the clean x_0, where there is nothing to learn": (x_0 @ W - x_0)
            .square()
            .mean(1),
            "the target is x_0 itself, not shrunk by alpha_t": (x_t @ W - a.sqrt() * x_0).square().mean(1),
            "alpha_t and sigma_t are the roots of alpha_bar and 1 - alpha_bar": ((a * x_0 + (1 - a) * eps) @ W - x_0)
            .square()
            .mean(1),
            "sigma_t is the root of 1 - alpha_bar": ((a.sqrt() * x_0 + (1 - a) * eps) @ W - x_0).square().mean(1),
            "alpha_t is the root of alpha_bar": ((a * x_0 + (1 - a).sqrt() * eps) @ W - x_0).square().mean(1),
            "square first, then average: yours is the square of an average": (x_t @ W - x_0).mean(1).square(),
            "x_0 has to shrink as well: x_t = alpha_t x_0 + sigma_t eps": ((x_0 + (1 - a).sqrt() * eps) @ W - x_0)
            .square()
            .mean(1),
            "the two roots are swapped: alpha_t goes with x_0": (((1 - a).sqrt() * x_0 + a.sqrt() * eps) @ W - x_0)
            .square()
            .mean(1),
            "average over the row, do not sum": d * right,
            "an average of the absolute values is another loss; its best answer is a median": (x_t @ W - x_0)
            .abs()
            .mean(1),
            "that is the root of the loss": right.sqrt(),
            "the guess is `x_t @ W`, without a transpose": (x_t @ W.T - x_0).square().mean(1),
            "one row's noise serves the whole batch: every row has its own": loss(a, eps=eps[:1]),
            "the noise is missing: x_t = alpha_t x_0 + sigma_t eps": loss(a, eps=0 * eps),
            "noise is added, not taken away (harmless for one symmetric draw, but not the equation)": loss(a, eps=-eps),
            "1 - sqrt(alpha_bar) is not sqrt(1 - alpha_bar)": ((a.sqrt() * x_0 + (1 - a.sqrt()) * eps) @ W - x_0)
            .square()
            .mean(1),
            "the matrix gets all of x_t; in yours the noise goes round it": (
                a.sqrt() * x_0 @ W + (1 - a).sqrt() * eps - x_0
            )
            .square()
            .mean(1),
            "the error is the guess minus x_0": (x_t @ W + x_0).square().mean(1),
            "the target is missing: the guess minus x_0 is squared": (x_t @ W).square().mean(1),
            "all rows count alike: no weight was asked for": right * (ab / (1 - ab))[t],
            "square, then average: the length is the root of a sum": (x_t @ W - x_0).norm(dim=1),
            "take no mean off: the square is averaged, not the variance taken": (x_t @ W - x_0).var(1),
        } | lookups(loss, ab, x_0, t)
        got = answer(W, x_0, t, ab, eps)
        expect(
            got,
            right,
            what="the loss",
            mistakes=mistakes,
            shape_hint="one number a row: average over the columns alone, with `.mean(1)`",
        )
    each = torch.ones(b, dtype=dtype)
    expect(
        answer.gradient(W, x_0, t, ab, eps, wrt=0, cotangent=each),
        2 * x_t.T @ (x_t @ W - x_0) / d,
        what="the gradient of the loss with respect to W",
    )


@exercise("05.score", "A score from a denoiser", error_hints=BROADCASTING)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in CASES:
        schedule = random_schedule(draw, dtype=dtype)
        x_t, x0_hat = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        t = draw.times(2, schedule.T, len(x_t))
        table = schedule.alpha_bar.to(dtype)
        ab = column(table[t], x_t)

        def formula(a: Tensor, x_t: Tensor = x_t, x0_hat: Tensor = x0_hat) -> Tensor:
            return (a.sqrt() * x0_hat - x_t) / (1 - a)

        right = score_from_x0(x_t, x0_hat, t, schedule)
        expect(
            answer(x_t, x0_hat, t, table),
            right,
            what="the score",
            mistakes={
                "the sign: the score points uphill, from x_t to the shrunken guess": -right,
                "divide by sigma_t², not by sigma_t: that is minus the expected noise": right * (1 - ab).sqrt(),
                "divide by sigma_t² = 1 - alpha_bar[t], no further square": right / (1 - ab),
                "that is only the arrow; divide it by sigma_t²": right * (1 - ab),
                "noisy points gather around alpha_t x_0: the guess has to shrink first": (x0_hat - x_t) / (1 - ab),
                "alpha_t is the root of alpha_bar[t]": (ab * x0_hat - x_t) / (1 - ab),
                "alpha_t goes with the guess, not with x_t": (x0_hat - ab.sqrt() * x_t) / (1 - ab),
                "one root of alpha_bar is enough: yours has the root of a root": (ab**0.25 * x0_hat - x_t) / (1 - ab),
                "brackets go round the whole difference: both terms are divided": ab.sqrt() * x0_hat - x_t / (1 - ab),
                "brackets round the whole difference: both terms are divided": ab.sqrt() * x0_hat / (1 - ab) - x_t,
                "x_t and x0_hat are swapped": (ab.sqrt() * x_t - x0_hat) / (1 - ab),
                "sigma_t² is 1 - alpha_bar[t]; yours is 1 - sqrt(alpha_bar[t])": (ab.sqrt() * x0_hat - x_t)
                / (1 - ab.sqrt()),
                "that is Tweedie's formula read as if x0_hat were the score; solve it for the score": (
                    x_t + (1 - ab) * x0_hat
                )
                / ab.sqrt(),
                "divide by sigma_t², the noise's variance, not by alpha_t²": right * (1 - ab) / ab,
                "a difference, not a sum: from x_t to the shrunken guess": (ab.sqrt() * x0_hat + x_t) / (1 - ab),
                "sigma_t² is 1 - alpha_bar[t]; yours is 1 - alpha_bar[t]²": (ab.sqrt() * x0_hat - x_t) / (1 - ab**2),
                "the guess is missing: that is the score of pure noise": -x_t / (1 - ab),
                "x_t is missing: the arrow goes from there": ab.sqrt() * x0_hat / (1 - ab),
                "alpha_t goes with the guess; yours has sigma_t": ((1 - ab).sqrt() * x0_hat - x_t) / (1 - ab),
            }
            | lookups(formula, table, x_t, t),
            shape_hint=f"the score is as large as x_t: {AS_COLUMN}",
        )


@exercise(
    "05.posterior_variance",
    "How sure, coordinate by coordinate",
    error_hints=_MATRIX,
)
def _(answer: Answer, draw: Draw) -> None:
    for b, d, dtype in [(4, 4, torch.float64), (5, 3, torch.float64), (3, 6, torch.float32), (2, 2, torch.float64)]:
        schedule = random_schedule(draw, dtype=dtype)
        root = draw.normal(b, d, d, dtype=dtype)
        # lopsided on purpose, as a network's Jacobian is: only the diagonal is asked for, and no variance is negative
        J = root @ root.mT + draw.normal(b, d, d, dtype=dtype).tril(-1)
        t = draw.times(2, schedule.T, b)
        ab = schedule.alpha_bar.to(dtype)
        a, diagonal = ab[t][:, None], J.diagonal(dim1=1, dim2=2)

        def variance(a: Tensor, diagonal: Tensor = diagonal) -> Tensor:
            return (1 - a) / a.sqrt() * diagonal

        right = variance(a)
        mistakes = {
            "sigma_t² / alpha_t: yours lacks the alpha_t below the line": (1 - a) * diagonal,
            "it is sigma_t² = 1 - alpha_bar[t] above the line; yours is sigma_t": (1 - a).sqrt() / a.sqrt() * diagonal,
            "one root of alpha_bar is enough: yours has the root of a root": (1 - a) / a**0.25 * diagonal,
            "sigma_t² is 1 - alpha_bar[t]; yours is 1 - sqrt(alpha_bar[t])": (1 - a.sqrt()) / a.sqrt() * diagonal,
            "alpha_t below the line is the root of alpha_bar[t]; yours is alpha_t²": (1 - a) / a * diagonal,
            "the fraction is upside down: little noise leaves little doubt": a.sqrt() / (1 - a) * diagonal,
            "alpha_t belongs below the line: J is alpha_t / sigma_t² times the covariance": (1 - a)
            * a.sqrt()
            * diagonal,
            "J's own diagonal is no variance yet: it wants the factor of Eq. (5.7)": diagonal.clone(),
            "that is the standard deviation: the root was not asked for": right.clamp(min=0).sqrt(),
            "that sums J's rows; a coordinate's own variance stands on the diagonal": (1 - a) / a.sqrt() * J.sum(2),
            "that sums J's columns; a coordinate's own variance stands on the diagonal": (1 - a) / a.sqrt() * J.sum(1),
            "that is a single row of the covariance; the variances stand on the diagonal": (1 - a) / a.sqrt() * J[:, 0],
            "the trace is the variance of all coordinates together: keep them apart": right.sum(1),
            "that is the whole covariance: only its diagonal was asked for": (1 - a)[..., None]
            / a.sqrt()[..., None]
            * J,
            "the eigenvalues of J belong to its own axes; the coordinates' variances stand on the diagonal": (
                variance(a, torch.linalg.eigvalsh(J))
            ),
            "each coordinate has its own variance; yours have their average": variance(
                a, diagonal.mean(1, keepdim=True).expand(b, d)
            ),
            "that is the first column of the covariance; the variances stand on the diagonal": variance(a, J[:, :, 0]),
            "the sizes of J's rows are no variances: those stand on the diagonal": variance(a, J.norm(dim=2)),
            "the coordinates come in the order of the diagonal": variance(a, diagonal.flip(1)),
        } | lookups(variance, ab, diagonal, t)
        if b == d:
            mistakes["`torch.diagonal` without dims takes the first two axes; the matrices lie in the last two"] = (
                variance(a, J.diagonal())
            )
        expect(
            answer(J, t, ab),
            right,
            what="the variance",
            mistakes=mistakes,
            shape_hint="one variance for each coordinate of each point, (b, d): `J.diagonal(dim1=1, dim2=2)`",
        )


@exercise(
    "05.pca_denoiser",
    "The best linear bottleneck",
    error_hints={
        "mat1 and mat2": "encode with `@ U`, (b, d) times (d, k); decode with `@ U.T`, (b, k) times (k, d)",
        "The size of tensor": "there is one factor for each of the k numbers of the code: multiply before decoding",
        "must match": "there is one factor for each of the k numbers of the code: multiply before decoding",
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for b, d, k, dtype in [
        (5, 6, 3, torch.float64),
        (4, 5, 1, torch.float64),
        (3, 8, 4, torch.float32),
        (2, 4, 4, torch.float64),
    ]:
        x_t, mu = draw.normal(b, d, dtype=dtype), 2 * draw.normal(d, dtype=dtype)
        U = torch.linalg.qr(draw.normal(d, d, dtype=torch.float64))[0][:, :k].to(dtype)
        lam = draw.uniform(0.1, 4.0, k, dtype=dtype).sort(descending=True).values
        alpha = draw.number(0.3, 0.9)
        sigma = draw.number(0.4, 1.2) if k == d else (1 - alpha**2) ** 0.5  # on any schedule
        total = alpha**2 * lam + sigma**2
        code, right_factor = (x_t - alpha * mu) @ U, alpha * lam / total

        def decoded(factor: Tensor | float, code: Tensor = code, mu: Tensor | float = mu, U: Tensor = U) -> Tensor:
            return mu + (code * factor) @ U.T

        right = decoded(right_factor)
        mistakes = {
            "no shrinking: the noise along the kept directions passes in full": decoded(1 / alpha),
            "that projects x_t and gives the noise back as it is": decoded(1.0),
            "the factor is alpha lam / (alpha² lam + sigma²): yours lacks alpha above the line": decoded(lam / total),
            "the factor is alpha lam / (alpha² lam + sigma²): yours has alpha² above the line": decoded(
                alpha**2 * lam / total
            ),
            "in x_t the variance along u_i is alpha² lam + sigma²; yours lacks alpha²": decoded(
                alpha * lam / (lam + sigma**2)
            ),
            "the noise's variance is sigma², not sigma": decoded(alpha * lam / (alpha**2 * lam + sigma)),
            "the noise's variance is sigma², and sigma is handed over: it need not be the root of 1 - alpha²": decoded(
                alpha * lam / (alpha**2 * lam + 1 - alpha**2)
            ),
            "alpha and sigma are swapped": decoded(sigma * lam / (sigma**2 * lam + alpha**2)),
            "lam are variances already: no further square": decoded(alpha * lam**2 / (alpha**2 * lam**2 + sigma**2)),
            "in x_t the mean has moved to alpha mu": decoded(right_factor, (x_t - mu) @ U),
            "take alpha mu off before encoding": decoded(right_factor, x_t @ U),
            "the mean is missing at the end: the code holds only what differs from it": decoded(right_factor, mu=0.0),
            "the mean that is put back is that of x_0: mu, not alpha mu": decoded(right_factor, mu=alpha * mu),
            "what is dropped stays at the mean; yours returns it with its noise": right
            + (x_t - alpha * mu)
            - code @ U.T,
            "that is the code: decode it with `@ U.T`": code * right_factor,
            "the sign: what is decoded is added to the mean": decoded(-right_factor),
            "lam are variances already: no root": decoded(alpha * lam.sqrt() / (alpha**2 * lam.sqrt() + sigma**2)),
            "the factor has alpha² lam + sigma² below the line; yours has its root": decoded(
                alpha * lam / total.sqrt()
            ),
            "the factor has alpha above the line; yours has it below": decoded(lam / total / alpha),
            "each of the k numbers has its own factor; yours all have the first": decoded(right_factor[:1].expand(k)),
            "factor i belongs to u_i: yours are in reverse": decoded(right_factor.flip(0)),
            "in x_t the mean is alpha mu: it is taken off, not added": decoded(right_factor, (x_t + alpha * mu) @ U),
            "that is the share of the noise; keep the signal's, with alpha lam above the line": decoded(
                sigma**2 / total
            ),
            "mu is handed over: the mean of the batch is another number": x_t.mean(0)
            + ((x_t - x_t.mean(0)) @ U * right_factor) @ U.T,
        }
        if k == d:
            mistakes["the u_i are the columns of U: encode with `@ U`, decode with `@ U.T`"] = decoded(
                right_factor, (x_t - alpha * mu) @ U.T, U=U.T
            )
        expect(
            answer(x_t, alpha, sigma, mu, U, lam),
            right,
            what="f_k(x_t)",
            mistakes=mistakes,
            shape_hint="what comes out is as large as x_t: decode with `@ U.T`",
        )


def _laplacian(x: Tensor, centre: float = 4.0, keep: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    up, down, left, right = keep
    sides = up * x[..., :-2, 1:-1] + down * x[..., 2:, 1:-1] + left * x[..., 1:-1, :-2] + right * x[..., 1:-1, 2:]
    return centre * x[..., 1:-1, 1:-1] - sides


def _corners(x: Tensor) -> Tensor:
    return x[..., :-2, :-2] + x[..., :-2, 2:] + x[..., 2:, :-2] + x[..., 2:, 2:]


_WINDOWS = "all five windows are as large, (h - 2, w - 2): `1:-1` along one axis, `:-2` or `2:` along the other"
_CHANNELS = "images have any number of channels, and a convolution's kernel must have as many; slices need no kernel"


@exercise(
    "05.sharpness",
    "Sharpness",
    error_hints={
        "The size of tensor": _WINDOWS,
        "must match": _WINDOWS,
        "expected input": _CHANNELS,
        "to have 1 channels": _CHANNELS,
    },
)
def _(answer: Answer, draw: Draw) -> None:
    for shape, dtype in [
        ((4, 1, 5, 7), torch.float64),
        ((2, 3, 8, 6), torch.float32),
        ((5, 2, 5, 5), torch.float64),
        ((1, 1, 14, 14), torch.float32),
    ]:
        x = draw.normal(*shape, dtype=dtype) + draw.number(1.0, 2.0)
        h, w = shape[2:]
        inner, right = (h - 2) * (w - 2), _laplacian(x).square().mean((1, 2, 3))
        padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
        wrapped = sum(x.roll(by, axis) for by in (1, -1) for axis in (-1, -2))
        mistakes = {
            "the mean is over pixels that have four neighbours; yours pads the border with zeros": _laplacian(padded)
            .square()
            .mean((1, 2, 3)),
            "`roll` makes the left border a neighbour of the right one: leave the border out": (4 * x - wrapped)
            .square()
            .mean((1, 2, 3)),
            "square before averaging: ups and downs cancel": _laplacian(x).mean((1, 2, 3)),
            "square before averaging: the square of the average is another number": _laplacian(x)
            .mean((1, 2, 3))
            .square(),
            "the Laplacian is squared, not made positive": _laplacian(x).abs().mean((1, 2, 3)),
            "that is the root: the root was not asked for": right.sqrt(),
            "average over the pixels, do not sum": right * inner * shape[1],
            "average over the channels too": right * shape[1],
            "divide by the number of pixels that were used, (h - 2)(w - 2), not by all": right * inner / (h * w),
            "four times the pixel itself: on a flat picture the Laplacian is zero": _laplacian(x, 1.0)
            .square()
            .mean((1, 2, 3)),
            "four neighbours: yours has only those above and below": _laplacian(x, 2.0, (1, 1, 0, 0))
            .square()
            .mean((1, 2, 3)),
            "four neighbours: yours has only those left and right": _laplacian(x, 2.0, (0, 0, 1, 1))
            .square()
            .mean((1, 2, 3)),
            "that is the variance of the Laplacian: take no mean off": _laplacian(x).flatten(1).var(1, correction=0),
            "that is the variance of the Laplacian: take no mean off, and divide by all of them": _laplacian(x)
            .flatten(1)
            .var(1),
            "that is the contrast of the pixels, which a blurred picture may have too": x.flatten(1).var(1),
            "neighbours are taken off: the signs of the four are minus": _laplacian(x, 4.0, (-1, -1, -1, -1))
            .square()
            .mean((1, 2, 3)),
            "four neighbours, above, below, left and right: yours has the corners as well": (
                _laplacian(x) + 4 * x[..., 1:-1, 1:-1] - _corners(x)
            )
            .square()
            .mean((1, 2, 3)),
            "the mean is over pixels that have four neighbours; yours repeats the border": _laplacian(
                torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
            )
            .square()
            .mean((1, 2, 3)),
            "the mean is over pixels that have four neighbours; yours mirrors the border": _laplacian(
                torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
            )
            .square()
            .mean((1, 2, 3)),
            "one ring of pixels has no four neighbours; yours leaves out two": _laplacian(x)[..., 1:-1, 1:-1]
            .square()
            .mean((1, 2, 3))
            if min(h, w) > 4
            else right + float("nan"),
            "that is the largest square: average over the pixels": _laplacian(x).square().amax((1, 2, 3)),
            "four times the pixel, not divided by four": right / 16,
            "one neighbour is missing: there are four": _laplacian(x, 4.0, (1, 1, 1, 0)).square().mean((1, 2, 3)),
            "the pixel counts four times, not five": _laplacian(x, 5.0).square().mean((1, 2, 3)),
            "differences of neighbours are slopes; the Laplacian is how they bend": (
                x.diff(dim=2)[..., :-1].square() + x.diff(dim=3)[..., :-1, :].square()
            ).mean((1, 2, 3)),
        }
        if shape[1] > 1:
            mistakes |= {
                "average over all channels; yours looks at the first alone": _laplacian(x[:, :1])
                .square()
                .mean((1, 2, 3)),
                "square each channel's own Laplacian; yours mixes the channels first": _laplacian(x.mean(1, True))
                .square()
                .mean((1, 2, 3)),
                "square each channel's own Laplacian; yours adds them up first": _laplacian(x.sum(1, True))
                .square()
                .mean((1, 2, 3)),
            }
        if shape[0] == 1:  # one image: its mean and the batch's are the same number
            mistakes = {}
        expect(
            answer(x),
            right,
            what="the sharpness",
            mistakes=mistakes,
            shape_hint="one number an image: `.mean((1, 2, 3))` keeps the first axis",
        )
    flat = torch.full((2, 1, 6, 6), 0.7, dtype=torch.float64)
    if isinstance(got := answer(flat), Tensor) and (got.abs() > 1e-9).any():
        raise Wrong("a flat picture is not sharp", "four times the pixel minus its four neighbours is zero there")
    smallest = draw.normal(2, 2, 3, 4).double()  # one row of pixels has four neighbours
    expect(answer(smallest), _laplacian(smallest).square().mean((1, 2, 3)), what="the sharpness of images of height 3")
