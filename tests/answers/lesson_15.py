"""Answers to the exercises of lesson 15."""

import torch

from answers import right, wrong


def column(values, x):
    return values.reshape(-1, *[1] * (x.ndim - 1))


# --- 15.classifier ----------------------------------------------------------------------------------------------------


@right("15.classifier")
def classifier(x0_hat, gradient, w, alpha, sigma):
    return x0_hat + w * column(sigma**2 / alpha, x0_hat) * gradient


@right("15.classifier")
def classifier_by_the_score(x0_hat, gradient, w, alpha, sigma):
    a, s = column(alpha, x0_hat), column(sigma, x0_hat)
    x_t = torch.zeros_like(x0_hat)  # any x_t: it falls out
    score = (a * x0_hat - x_t) / s**2 + w * gradient
    return (x_t + s**2 * score) / a


@wrong("15.classifier", "sigma_t is squared")
def classifier_no_square(x0_hat, gradient, w, alpha, sigma):
    return x0_hat + w * column(sigma / alpha, x0_hat) * gradient


@wrong("15.classifier", "the rule for the noise")
def classifier_of_the_noise(x0_hat, gradient, w, alpha, sigma):
    return x0_hat - w * column(sigma, x0_hat) * gradient


@wrong("15.classifier", "before it can multiply images")
def classifier_no_column(x0_hat, gradient, w, alpha, sigma):
    k = sigma**2 / alpha
    return x0_hat + w * (k[:, None] if x0_hat.ndim == 2 else k) * gradient


@wrong("15.classifier", "in place")
def classifier_in_place(x0_hat, gradient, w, alpha, sigma):
    x0_hat += w * column(sigma**2 / alpha, x0_hat) * gradient
    return x0_hat


# --- 15.classifier_free -----------------------------------------------------------------------------------------------


@right("15.classifier_free")
def classifier_free(uncond, cond, w):
    return uncond + w * (cond - uncond)


@right("15.classifier_free")
def classifier_free_weighted(uncond, cond, w):
    return w * cond + (1 - w) * uncond


@right("15.classifier_free")
def classifier_free_lerp(uncond, cond, w):
    return torch.lerp(uncond, cond, w)


@wrong("15.classifier_free", "counts from 0")
def classifier_free_first_paper(uncond, cond, w):
    return (1 + w) * cond - w * uncond


@wrong("15.classifier_free", "goes the other way")
def classifier_free_swapped(uncond, cond, w):
    return cond + w * (uncond - cond)


@wrong("15.classifier_free", "the right shape and the wrong numbers")
def classifier_free_one_channel(uncond, cond, w):
    out = cond.clone()
    out[..., :1] = (uncond + w * (cond - uncond))[..., :1]
    return out


@wrong("15.classifier_free", "in place")
def classifier_free_in_place(uncond, cond, w):
    cond -= uncond
    return uncond + w * cond


# --- 15.drop_labels ---------------------------------------------------------------------------------------------------


@right("15.drop_labels")
def drop_labels(label, u, share):
    return torch.where(u < share, -1, label)


@right("15.drop_labels")
def drop_labels_filled(label, u, share):
    return label.masked_fill(u < share, -1)


@right("15.drop_labels")
def drop_labels_loop(label, u, share):
    return torch.tensor([-1 if chance < share else c for c, chance in zip(label.tolist(), u.tolist(), strict=True)])


@wrong("15.drop_labels", "0 is a class")
def drop_labels_to_zero(label, u, share):
    return label * (u >= share)


@wrong("15.drop_labels", "in place")
def drop_labels_in_place(label, u, share):
    label[u < share] = -1
    return label


@wrong("15.drop_labels", "whole numbers")
def drop_labels_in_floats(label, u, share):
    return torch.where(u < share, -1.0, label.float())


@wrong("15.drop_labels", "of its own")
def drop_labels_own_chance(label, u, share):
    return torch.where(torch.rand(len(label)) < share, -1, label)


# --- 15.interval ------------------------------------------------------------------------------------------------------


def inside(log_snr, low, high):
    return (low <= log_snr) & (log_snr <= high)


@right("15.interval")
def interval(uncond, cond, log_snr, w, low, high):
    weight = torch.where(inside(log_snr, low, high), w, 1.0).to(uncond.dtype)
    return uncond + column(weight, uncond) * (cond - uncond)


@right("15.interval")
def interval_chosen(uncond, cond, log_snr, w, low, high):
    return torch.where(column(inside(log_snr, low, high), cond), uncond + w * (cond - uncond), cond)


@right("15.interval")
def interval_loop(uncond, cond, log_snr, w, low, high):
    return torch.stack(
        [u + w * (c - u) if low <= level <= high else c for u, c, level in zip(uncond, cond, log_snr, strict=True)]
    )


@wrong("15.interval", "forgets the class there")
def interval_unconditional_outside(uncond, cond, log_snr, w, low, high):
    weight = torch.where(inside(log_snr, low, high), w, 0.0).to(uncond.dtype)
    return uncond + column(weight, uncond) * (cond - uncond)


@wrong("15.interval", "<=, not <")
def interval_open(uncond, cond, log_snr, w, low, high):
    return torch.where(column((low < log_snr) & (log_snr < high), cond), uncond + w * (cond - uncond), cond)


@wrong("15.interval", "for each image")
def interval_if(uncond, cond, log_snr, w, low, high):
    return uncond + w * (cond - uncond) if low <= log_snr <= high else cond


@wrong("15.interval", "should be torch.float32")
def interval_in_double(uncond, cond, log_snr, w, low, high):
    return uncond + column(torch.where(inside(log_snr, low, high), w, 1.0).double(), uncond) * (cond - uncond)


@wrong("15.interval", "brackets around each of the two comparisons")
def interval_without_brackets(uncond, cond, log_snr, w, low, high):
    weight = torch.where(low <= log_snr & log_snr <= high, w, 1.0)
    return uncond + column(weight, uncond) * (cond - uncond)


@wrong("15.interval", "one number for each image must become a column")
def interval_flat(uncond, cond, log_snr, w, low, high):
    return torch.where(inside(log_snr, low, high), uncond + w * (cond - uncond), cond)


@right("15.interval")
def interval_by_places(uncond, cond, log_snr, w, low, high):
    led, where = cond.clone(), inside(log_snr, low, high)
    led[where] = (1 - w) * uncond[where] + w * cond[where]
    return led


# --- 15.paste ---------------------------------------------------------------------------------------------------------


@right("15.paste")
def paste(x_s, y, mask, z, alpha_bar, t, s):
    known = alpha_bar[s].sqrt() * y + (1 - alpha_bar[s]).sqrt() * z
    return torch.where(mask, known, x_s)


@right("15.paste")
def paste_arithmetic(x_s, y, mask, z, alpha_bar, t, s):
    m = mask.to(x_s.dtype)
    return m * (alpha_bar[s] ** 0.5 * y + (1 - alpha_bar[s]) ** 0.5 * z) + (1 - m) * x_s


@wrong("15.paste", "at the old level")
def paste_old_level(x_s, y, mask, z, alpha_bar, t, s):
    return paste(x_s, y, mask, z, alpha_bar, s, t)


@wrong("15.paste", "`~mask` turns them round")
def paste_one_minus_mask(x_s, y, mask, z, alpha_bar, t, s):
    return mask * y + (1 - mask) * x_s


@wrong("15.paste", "yours are clean")
def paste_clean(x_s, y, mask, z, alpha_bar, t, s):
    return torch.where(mask, y, x_s)


@wrong("15.paste", "in place")
def paste_in_place(x_s, y, mask, z, alpha_bar, t, s):
    x_s[..., mask] = paste(x_s, y, mask, z, alpha_bar, t, s)[..., mask]
    return x_s


@wrong("15.paste", "of its own")
def paste_own_noise(x_s, y, mask, z, alpha_bar, t, s):
    return paste(x_s, y, mask, torch.randn_like(x_s), alpha_bar, t, s)


@wrong("15.paste", "spread over the batch by themselves")
def paste_by_places(x_s, y, mask, z, alpha_bar, t, s):
    known, pasted = alpha_bar[s].sqrt() * y + (1 - alpha_bar[s]).sqrt() * z, x_s.clone()
    pasted[mask] = known[mask]
    return pasted


@right("15.paste")
def paste_the_truth_at_the_end(x_s, y, mask, z, alpha_bar, t, s):
    return torch.where(mask, y, x_s) if s == 0 else paste(x_s, y, mask, z, alpha_bar, t, s)


# --- 15.up_again ------------------------------------------------------------------------------------------------------


@right("15.up_again")
def up_again(x_s, z, alpha_bar, t, s):
    ratio = alpha_bar[t] / alpha_bar[s]
    return ratio.sqrt() * x_s + (1 - ratio).sqrt() * z


@right("15.up_again")
def up_again_step_by_step(x_s, z, alpha_bar, t, s):
    variance = 0.0
    for r in range(s + 1, t + 1):
        keep = alpha_bar[r] / alpha_bar[r - 1]
        x_s, variance = keep.sqrt() * x_s, keep * variance + (1 - keep)
    return x_s + variance**0.5 * z


@wrong("15.up_again", "as if it were clean")
def up_again_from_clean(x_s, z, alpha_bar, t, s):
    return alpha_bar[t].sqrt() * x_s + (1 - alpha_bar[t]).sqrt() * z


@wrong("15.up_again", "one step of the chain")
def up_again_one_step(x_s, z, alpha_bar, t, s):
    return up_again(x_s, z, alpha_bar, t, t - 1)


@wrong("15.up_again", "in place")
def up_again_in_place(x_s, z, alpha_bar, t, s):
    x_s *= (alpha_bar[t] / alpha_bar[s]).sqrt()
    return x_s + (1 - alpha_bar[t] / alpha_bar[s]).sqrt() * z
