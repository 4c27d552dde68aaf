"""Answers to lesson 08."""

import math

import torch

from answers import right, wrong

# --- 08.log_snr ------------------------------------------------------------------------------------------------------


@right("08.log_snr")
def log_snr(x_0, t, alpha_bar):
    variance = (x_0 - x_0.mean()).square().mean()
    return (alpha_bar[t] * variance / (1 - alpha_bar[t])).log()


@right("08.log_snr")
def log_snr_in_sums(x_0, t, alpha_bar):
    return alpha_bar[t].log() - torch.log(1 - alpha_bar[t]) + 2 * x_0.std(unbiased=False).log()


@right("08.log_snr")
def log_snr_n_minus_one(x_0, t, alpha_bar):
    return torch.log(alpha_bar[t] / (1 - alpha_bar[t]) * x_0.var())


@right("08.log_snr")
def log_snr_loop(x_0, t, alpha_bar):
    variance = x_0.flatten().var(correction=0)
    return torch.stack([torch.log(alpha_bar[i] * variance) - torch.log(1 - alpha_bar[i]) for i in t.tolist()])


@wrong("08.log_snr", "variance of the images is missing")
def log_snr_of_schedule(x_0, t, alpha_bar):
    return (alpha_bar[t] / (1 - alpha_bar[t])).log()


@wrong("08.log_snr", "carries no signal")
def log_snr_of_squares(x_0, t, alpha_bar):
    return (alpha_bar[t] * x_0.square().mean() / (1 - alpha_bar[t])).log()


# --- 08.radial_power -------------------------------------------------------------------------------------------------


def rings_of(side, rounding=torch.round):
    k = torch.fft.fftfreq(side) * side
    return rounding((k[:, None] ** 2 + k**2).sqrt())


def over_rings(power, ring):
    return torch.stack([power[ring == r].mean() for r in range(power.shape[-1] // 2 + 1)])


@right("08.radial_power")
def radial_power(x):
    return over_rings(torch.fft.fft2(x, norm="ortho").abs().square().mean(0), rings_of(x.shape[-1]))


@right("08.radial_power")
def radial_power_by_hand(x):
    side = x.shape[-1]
    waves = torch.fft.fft2(x)
    power = ((waves.real**2 + waves.imag**2) / side**2).mean(0)
    total, count = [0.0] * (side // 2 + 1), [0] * (side // 2 + 1)
    for i in range(side):
        for j in range(side):
            ring = round(math.hypot(min(i, side - i), min(j, side - j)))
            if ring <= side // 2:
                total[ring], count[ring] = total[ring] + power[i, j], count[ring] + 1
    return torch.stack([s / c for s, c in zip(total, count)])


@right("08.radial_power")
def radial_power_with_bincount(x):
    side = x.shape[-1]
    power = (torch.fft.fftshift(torch.fft.fft2(x, norm="ortho"), dim=(-2, -1)).abs() ** 2).mean(0).flatten()
    k = torch.arange(side) - side // 2
    ring = (k[:, None] ** 2 + k**2).double().sqrt().round().long().flatten()
    return (torch.bincount(ring, power.double()) / torch.bincount(ring))[: side // 2 + 1].to(x.dtype)


@wrong("08.radial_power", "grows with the number of pixels")
def radial_power_unscaled(x):
    return over_rings(torch.fft.fft2(x).abs().square().mean(0), rings_of(x.shape[-1]))


@wrong("08.radial_power", '"ortho" by its root')
def radial_power_forward(x):
    return over_rings(torch.fft.fft2(x, norm="forward").abs().square().mean(0), rings_of(x.shape[-1]))


@wrong("08.radial_power", "waves per *pixel*")
def radial_power_frequencies_below_one(x):
    k = torch.fft.fftfreq(x.shape[-1])
    return over_rings(torch.fft.fft2(x, norm="ortho").abs().square().mean(0), (k[:, None] ** 2 + k**2).sqrt().round())


@wrong("08.radial_power", "corners beyond")
def radial_power_with_corners(x):
    power, ring = torch.fft.fft2(x, norm="ortho").abs().square().mean(0), rings_of(x.shape[-1])
    return torch.stack([power[ring == r].mean() for r in range(int(ring.max()) + 1)])


@wrong("08.radial_power", "corners beyond")
def radial_power_one_short(x):
    return radial_power(x)[:-1]


# --- 08.wiener -------------------------------------------------------------------------------------------------------


def through(x, gain):
    return torch.fft.ifft2(gain * torch.fft.fft2(x)).real


@right("08.wiener")
def wiener(x_t, mean, power, alpha, sigma):
    w = alpha * power / (alpha**2 * power + sigma**2)
    waves = torch.fft.fft2(x_t - alpha * mean, norm="ortho")
    return mean + torch.fft.ifft2(w * waves, norm="ortho").real


@right("08.wiener")
def wiener_by_snr(x_t, mean, power, alpha, sigma):
    snr = alpha**2 * power / sigma**2
    return mean + through(x_t - alpha * mean, snr / (1 + snr) / alpha)


@right("08.wiener")
def wiener_loop(x_t, mean, power, alpha, sigma):
    w = 1 / (alpha + sigma**2 / (alpha * power))
    return torch.stack([mean + through(x, w) - through(alpha * mean, w) for x in x_t])


@wrong("08.wiener", "take off alpha * mean")
def wiener_mean_unscaled(x_t, mean, power, alpha, sigma):
    return mean + through(x_t - mean, alpha * power / (alpha**2 * power + sigma**2))


@wrong("08.wiener", "put the average picture back")
def wiener_mean_lost(x_t, mean, power, alpha, sigma):
    return through(x_t - alpha * mean, alpha * power / (alpha**2 * power + sigma**2))


@wrong("08.wiener", "take `.real`")
def wiener_complex(x_t, mean, power, alpha, sigma):
    w = alpha * power / (alpha**2 * power + sigma**2)
    return mean + torch.fft.ifft2(w * torch.fft.fft2(x_t - alpha * mean))


@wrong("08.wiener", "in place")
def wiener_in_place(x_t, mean, power, alpha, sigma):
    x_t -= alpha * mean
    return mean + through(x_t, alpha * power / (alpha**2 * power + sigma**2))


# --- 08.random_flip --------------------------------------------------------------------------------------------------


@right("08.random_flip")
def random_flip(x, u):
    return torch.where((u < 0.5)[:, None, None, None], x.flip(-1), x)


@right("08.random_flip")
def random_flip_by_index(x, u):
    x = x.clone()
    x[u < 0.5] = x[u < 0.5].flip(-1)
    return x


@right("08.random_flip")
def random_flip_loop(x, u):
    return torch.stack([image.flip(2) if number < 0.5 else image for image, number in zip(x, u.tolist())])


@wrong("08.random_flip", "mirrors all of them")
def random_flip_all(x, u):
    return x.flip(-1)


@wrong("08.random_flip", "mirrors none of them")
def random_flip_none(x, u):
    return x


@wrong("08.random_flip", "asks about one number")
def random_flip_if(x, u):
    return x.flip(-1) if u < 0.5 else x


@wrong("08.random_flip", "in place")
def random_flip_in_place(x, u):
    x[u < 0.5] = x[u < 0.5].flip(-1)
    return x


@wrong("08.random_flip", "should have shape")
def random_flip_some(x, u):
    return x[u < 0.5].flip(-1)


@wrong("08.random_flip", "random numbers of its own")
def random_flip_own_coin(x, u):
    return torch.where((torch.rand(len(x)) < 0.5)[:, None, None, None], x.flip(-1), x)


# --- 08.next_scale ---------------------------------------------------------------------------------------------------


@right("08.next_scale")
def next_scale(scale, clean, norm, patience):
    if not math.isfinite(norm):
        return scale / 2, 0
    if clean + 1 == patience:
        return scale * 2, 0
    return scale, clean + 1


@right("08.next_scale")
def next_scale_by_comparison(scale, clean, norm, patience):
    if norm < float("inf"):  # false for NaN, too
        clean += 1
        return (scale, clean) if clean < patience else (2 * scale, 0)
    return 0.5 * scale, 0


@right("08.next_scale")
def next_scale_by_torch(scale, clean, norm, patience):
    overflow = not torch.tensor(norm).isfinite()
    factor = 0.5 if overflow else 2.0 if clean + 1 >= patience else 1.0
    return [scale * factor, clean + 1 if factor == 1.0 else 0]


@wrong("08.next_scale", "NaN is an overflow, too")
def next_scale_inf_only(scale, clean, norm, patience):
    return (scale / 2, 0) if math.isinf(norm) else next_scale(scale, clean, 1.0, patience)


@wrong("08.next_scale", "an overflow halves the scale")
def next_scale_nan_only(scale, clean, norm, patience):
    return (scale / 2, 0) if math.isnan(norm) else next_scale(scale, clean, 1.0, patience)


@wrong("08.next_scale", "the count of clean steps begins again")
def next_scale_count_kept(scale, clean, norm, patience):
    return next_scale(scale, clean, norm, patience) if math.isfinite(norm) else (scale / 2, clean)


@wrong("08.next_scale", "an overflow halves the scale")
def next_scale_never_halved(scale, clean, norm, patience):
    return next_scale(scale, clean, norm, patience) if math.isfinite(norm) else (scale, 0)


@wrong("08.next_scale", "halve it, not double it")
def next_scale_doubled_on_overflow(scale, clean, norm, patience):
    return next_scale(scale, clean, norm, patience) if math.isfinite(norm) else (scale * 2, 0)


@wrong("08.next_scale", "the count begins again, at 0")
def next_scale_count_goes_on(scale, clean, norm, patience):
    if not math.isfinite(norm):
        return scale / 2, 0
    return (scale * 2, clean + 1) if clean + 1 == patience else (scale, clean + 1)


@wrong("08.next_scale", "the scale doubles now")
def next_scale_late(scale, clean, norm, patience):
    if not math.isfinite(norm):
        return scale / 2, 0
    return (scale * 2, 0) if clean == patience else (scale, clean + 1)


@wrong("08.next_scale", "too early by one")
def next_scale_early(scale, clean, norm, patience):
    if not math.isfinite(norm):
        return scale / 2, 0
    return (scale * 2, 0) if clean + 2 >= patience else (scale, clean + 1)


@wrong("08.next_scale", "a clean step counts")
def next_scale_not_counted(scale, clean, norm, patience):
    return (scale, clean) if math.isfinite(norm) else (scale / 2, 0)


@wrong("08.next_scale", "stays as it is")
def next_scale_always_doubled(scale, clean, norm, patience):
    return (scale * 2, clean + 1) if math.isfinite(norm) else (scale / 2, 0)


@wrong("08.next_scale", "look for an overflow first")
def next_scale_growth_first(scale, clean, norm, patience):
    if clean + 1 == patience:
        return scale * 2, 0
    return (scale, clean + 1) if math.isfinite(norm) else (scale / 2, 0)


@wrong("08.next_scale", "large is no overflow")
def next_scale_threshold(scale, clean, norm, patience):
    return next_scale(scale, clean, norm if norm < 65504 else float("inf"), patience)


@wrong("08.next_scale", "the scale doubles")
def next_scale_never_grows(scale, clean, norm, patience):
    return (scale, clean + 1) if math.isfinite(norm) else (scale / 2, 0)


@wrong("08.next_scale", "the scale comes first")
def next_scale_swapped(scale, clean, norm, patience):
    return next_scale(scale, clean, norm, patience)[::-1]


@wrong("08.next_scale", "two things")
def next_scale_alone(scale, clean, norm, patience):
    return next_scale(scale, clean, norm, patience)[0]


# --- what readers and attackers found ---------------------------------------------------------------------------------


@wrong("08.random_flip", "whose number is 0.5")
def random_flip_at_most(x, u):
    return torch.where((u <= 0.5)[:, None, None, None], x.flip(-1), x)


@wrong("08.next_scale", "divide with `/`")
def next_scale_whole(scale, clean, norm, patience):
    return next_scale(scale, clean, norm, patience) if math.isfinite(norm) else (scale // 2, 0)


@wrong("08.next_scale", "nothing holds it at 1")
def next_scale_at_least_one(scale, clean, norm, patience):
    scale, clean = next_scale(scale, clean, norm, patience)
    return max(scale, 1.0), clean


@wrong("08.next_scale", "no largest scale")
def next_scale_at_most(scale, clean, norm, patience):
    scale, clean = next_scale(scale, clean, norm, patience)
    return min(scale, 2.0**16), clean


@wrong("08.next_scale", "not at 1")
def next_scale_counts_the_overflow(scale, clean, norm, patience):
    return next_scale(scale, clean, norm, patience) if math.isfinite(norm) else (scale / 2, 1)
