"""Answers to the exercises of lesson 16."""

import math

import torch

from answers import right, wrong

# --- 16.shift --------------------------------------------------------------------------------------------------------


@right("16.shift")
def shift(log_snr, base, side):
    return log_snr + 2 * math.log(base / side)


@right("16.shift")
def shift_of_areas(log_snr, base, side):
    return log_snr - math.log(side**2 / base**2)


@right("16.shift")
def shift_by_the_snr(log_snr, base, side):
    return (log_snr.double().exp() * (base / side) ** 2).log().to(log_snr.dtype)


@wrong("16.shift", "in place")
def shift_in_place(log_snr, base, side):
    log_snr += 2 * math.log(base / side)
    return log_snr


@wrong("16.shift", "should be a tensor")
def shift_list(log_snr, base, side):
    return [value + 2 * math.log(base / side) for value in log_snr.tolist()]


@wrong("16.shift", "the other way round")
def shift_backwards(log_snr, base, side):
    return log_snr + 2 * math.log(side / base)


# --- 16.shown --------------------------------------------------------------------------------------------------------


@right("16.shown")
def shown(x, eps, alpha_r, sigma_r, k):
    y = torch.nn.functional.avg_pool2d(x, k)
    alpha_r, sigma_r = alpha_r.reshape(-1, 1, 1, 1), sigma_r.reshape(-1, 1, 1, 1)
    y_r = alpha_r * y + sigma_r * eps
    return y_r.repeat_interleave(k, -1).repeat_interleave(k, -2)


@right("16.shown")
def shown_by_reshape(x, eps, alpha_r, sigma_r, k):
    b, c, h, w = x.shape
    y = x.reshape(b, c, h // k, k, w // k, k).mean((3, 5))
    y_r = alpha_r[:, None, None, None] * y + sigma_r[:, None, None, None] * eps
    return torch.nn.functional.interpolate(y_r, scale_factor=k, mode="nearest")


@right("16.shown")
def shown_loop(x, eps, alpha_r, sigma_r, k):
    out = torch.empty_like(x)
    for i in range(x.shape[2] // k):
        for j in range(x.shape[3] // k):
            square = x[:, :, k * i : k * i + k, k * j : k * j + k].mean((2, 3))
            value = alpha_r[:, None] * square + sigma_r[:, None] * eps[:, :, i, j]
            out[:, :, k * i : k * i + k, k * j : k * j + k] = value[:, :, None, None]
    return out


@wrong("16.shown", "add it before you enlarge")
def shown_noise_on_large(x, eps, alpha_r, sigma_r, k):
    y = torch.nn.functional.avg_pool2d(x, k).repeat_interleave(k, -1).repeat_interleave(k, -2)
    return alpha_r.reshape(-1, 1, 1, 1) * y + sigma_r.reshape(-1, 1, 1, 1) * eps


@wrong("16.shown", "the mean of each square")
def shown_strided(x, eps, alpha_r, sigma_r, k):
    y_r = alpha_r.reshape(-1, 1, 1, 1) * x[..., ::k, ::k] + sigma_r.reshape(-1, 1, 1, 1) * eps
    return y_r.repeat_interleave(k, -1).repeat_interleave(k, -2)


@wrong("16.shown", "random")
def shown_own_noise(x, eps, alpha_r, sigma_r, k):
    y = torch.nn.functional.avg_pool2d(x, k)
    y_r = alpha_r.reshape(-1, 1, 1, 1) * y + sigma_r.reshape(-1, 1, 1, 1) * torch.randn_like(y)
    return y_r.repeat_interleave(k, -1).repeat_interleave(k, -2)


@wrong("16.shown", "lets them multiply")
def shown_unshaped(x, eps, alpha_r, sigma_r, k):
    y_r = alpha_r[:, None] * torch.nn.functional.avg_pool2d(x, k) + sigma_r[:, None] * eps
    return y_r.repeat_interleave(k, -1).repeat_interleave(k, -2)


@wrong("16.shown", "divides by k where *large* noise is averaged")
def shown_noise_by_k(x, eps, alpha_r, sigma_r, k):
    alpha_r, sigma_r = alpha_r.reshape(-1, 1, 1, 1), sigma_r.reshape(-1, 1, 1, 1)
    y_r = alpha_r * torch.nn.functional.avg_pool2d(x, k) + sigma_r / k * eps
    return y_r.repeat_interleave(k, -1).repeat_interleave(k, -2)


@wrong("16.shown", "yours takes the first's for all")
def shown_by_the_first(x, eps, alpha_r, sigma_r, k):
    y_r = alpha_r[0] * torch.nn.functional.avg_pool2d(x, k) + sigma_r[0] * eps
    return y_r.repeat_interleave(k, -1).repeat_interleave(k, -2)


@wrong("16.shown", "y_r alone")
def shown_beside_x(x, eps, alpha_r, sigma_r, k):
    return torch.cat([x, shown(x, eps, alpha_r, sigma_r, k)], 1)


# --- 16.waterfill ----------------------------------------------------------------------------------------------------


@right("16.waterfill")
def waterfill(variances, tau):
    rate = ((variances / tau).log() / 2).clamp(min=0).sum()
    return torch.stack([rate, variances.clamp(max=tau).sum()])


@right("16.waterfill")
def waterfill_loop(variances, tau):
    rate, distortion = variances.new_zeros(()), variances.new_zeros(())
    for value in variances:
        if value > tau:
            rate, distortion = rate + 0.5 * torch.log(value / tau), distortion + tau
        else:
            distortion = distortion + value
    return torch.stack([rate, distortion])


@right("16.waterfill")
def waterfill_where(variances, tau):
    wet = variances > tau
    rate = torch.where(wet, torch.log(variances) - math.log(tau), 0.0).sum() / 2
    return torch.stack((rate, torch.where(wet, tau, variances).sum()))


@wrong("16.waterfill", "two numbers in one tensor")
def waterfill_each(variances, tau):
    return torch.stack([((variances / tau).log() / 2).clamp(min=0), variances.clamp(max=tau)])


@wrong("16.waterfill", "should be a tensor")
def waterfill_tuple(variances, tau):
    return ((variances / tau).log() / 2).clamp(min=0).sum(), variances.clamp(max=tau).sum()


# --- 16.moments ------------------------------------------------------------------------------------------------------


@right("16.moments")
def moments(batches):
    n = sum(z.numel() for z in batches)
    mean = sum(z.sum() for z in batches) / n
    square = sum((z - mean).square().sum() for z in batches) / n
    return torch.stack([mean, square.sqrt()])


@right("16.moments")
def moments_cat(batches):
    z = torch.cat(batches)
    return torch.stack([z.mean(), z.std(correction=0)])


@right("16.moments")
def moments_of_sums(batches):
    n = sum(z.numel() for z in batches)
    mean = sum(z.double().sum() for z in batches) / n
    square = sum(z.double().square().sum() for z in batches) / n
    return torch.stack([mean, (square - mean**2).sqrt()]).to(batches[0].dtype)


@wrong("16.moments", "two numbers in one tensor")
def moments_by_channel(batches):
    z = torch.cat(batches)
    return torch.stack([z.mean((0, 2, 3)), z.std((0, 2, 3), correction=0)])


@wrong("16.moments", "the first batch alone")
def moments_first(batches):
    return torch.stack([batches[0].mean(), batches[0].std(correction=0)])


@wrong("16.moments", "weigh differently")
def moments_mean_of_means(batches):
    z = torch.cat(batches)
    return torch.stack([torch.stack([one.mean() for one in batches]).mean(), z.std(correction=0)])


@right("16.moments")
def moments_by_total_variance(batches):
    n = torch.tensor([z.numel() for z in batches]).to(batches[0].dtype)
    means, variances = (
        torch.stack([z.mean() for z in batches]),
        torch.stack([z.var(correction=0) for z in batches]),
    )
    mean = (n * means).sum() / n.sum()
    return torch.stack([mean, ((n * (variances + means**2)).sum() / n.sum() - mean**2).sqrt()])


@wrong("16.moments", "its *own* mean")
def moments_about_own_means(batches):
    z = torch.cat(batches)
    square = sum((one - one.mean()).square().sum() for one in batches) / z.numel()
    return torch.stack([z.mean(), square.sqrt()])


# --- 16.quantise -----------------------------------------------------------------------------------------------------


@right("16.quantise")
def quantise(z, codebook):
    nearest = codebook[torch.cdist(z, codebook).argmin(1)]
    return z + (nearest - z).detach()


@right("16.quantise")
def quantise_broadcast(z, codebook):
    which = ((z.unsqueeze(1) - codebook) ** 2).sum(-1).argmin(-1)
    return z - z.detach() + codebook.index_select(0, which).detach()


@right("16.quantise")
def quantise_loop(z, codebook):
    with torch.no_grad():
        e = torch.stack([min(codebook, key=lambda letter, row=row: float((letter - row).norm())) for row in z])
    return e + z - z.detach()


@wrong("16.quantise", "no gradient comes back to z")
def quantise_plain(z, codebook):
    return codebook[torch.cdist(z, codebook).argmin(1)]


@wrong("16.quantise", "not their numbers")
def quantise_indices(z, codebook):
    return torch.cdist(z, codebook).argmin(1)


@wrong("16.quantise", "no gradient comes back to z")
def quantise_detached(z, codebook):
    return (z + (codebook[torch.cdist(z, codebook).argmin(1)] - z)).detach()


@wrong("16.quantise", "no gradient comes back to z")
def quantise_attached(z, codebook):
    return z + (codebook[torch.cdist(z, codebook).argmin(1)] - z)


@right("16.quantise")
def quantise_to_both(z, codebook):
    return z - z.detach() + codebook[torch.cdist(z, codebook).argmin(1)]  # as (16.9) is, and to the codebook as well


@wrong("16.quantise", "over the letters")
def quantise_over_rows(z, codebook):
    return z + (codebook[torch.cdist(z, codebook).argmin(0) % len(codebook)] - z).detach()


@wrong("16.quantise", "one number for all")
def quantise_one_for_all(z, codebook):
    return z + (codebook[torch.cdist(z, codebook).argmin() % len(codebook)] - z).detach()


# --- 16.copies -------------------------------------------------------------------------------------------------------


@right("16.copies")
def copies(x, train, ratio):
    distance = torch.cdist(x.flatten(1), train.flatten(1))
    first, second = distance.topk(2, largest=False).values.unbind(1)
    return first < ratio * second


@right("16.copies")
def copies_sorted(x, train, ratio):
    x, train = x.reshape(len(x), -1), train.reshape(len(train), -1)
    distance = (x[:, None] - train[None]).square().sum(-1).sqrt().sort(1).values
    return distance[:, 0] / distance[:, 1] < ratio


@right("16.copies")
def copies_loop(x, train, ratio):
    out = []
    for one in x:
        d = sorted((one - other).norm().item() for other in train)
        out.append(d[0] < ratio * d[1])
    return torch.tensor(out)


@wrong("16.copies", "True or False for each picture")
def copies_share(x, train, ratio):
    distance = torch.cdist(x.flatten(1), train.flatten(1)).topk(2, largest=False).values
    return (distance[:, 0] < ratio * distance[:, 1]).float().mean()


@wrong("16.copies", "should be torch.bool")
def copies_as_floats(x, train, ratio):
    distance = torch.cdist(x.flatten(1), train.flatten(1)).topk(2, largest=False).values
    return (distance[:, 0] < ratio * distance[:, 1]).float()


@wrong("16.copies", "True or False for each picture")
def copies_not_flat(x, train, ratio):
    return torch.zeros(len(x), len(train), dtype=torch.bool)


@right("16.copies")
def copies_by_squares(x, train, ratio):
    squares = (x[:, None] - train[None]).square().flatten(2).sum(2).sort(1).values
    return squares[:, 0] < ratio**2 * squares[:, 1]


@wrong("16.copies", "it is no copy")
def copies_or_equal(x, train, ratio):
    first, second = torch.cdist(x.flatten(1), train.flatten(1)).topk(2, largest=False).values.unbind(1)
    return first <= ratio * second


@wrong("16.copies", "d_2 is the second nearest's")
def copies_third(x, train, ratio):
    distance = torch.cdist(x.flatten(1), train.flatten(1)).sort(1).values
    return distance[:, 0] < ratio * distance[:, 2]


@wrong("16.copies", "of x and of train")
def copies_of_columns(x, train, ratio):
    first, second = torch.cdist(x, train).topk(2, largest=False).values.unbind(-1)
    return first < ratio * second
