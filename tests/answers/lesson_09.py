"""Answers to lesson 09."""

import torch

from answers import right, wrong

# --- 09.fid ----------------------------------------------------------------------------------------------------------


@right("09.fid")
def fid(features, reference):
    S, R = torch.cov(features.T), torch.cov(reference.T)
    cross = torch.linalg.eigvals(S @ R).sqrt().real.sum()
    return (features.mean(0) - reference.mean(0)).square().sum() + S.trace() + R.trace() - 2 * cross


def root(S):
    values, axes = torch.linalg.eigh(S)
    return axes @ torch.diag(values.clamp(min=0) ** 0.5) @ axes.T


@right("09.fid")
def fid_by_symmetric_roots(features, reference):
    n, m = len(features), len(reference)
    mu, nu = features.mean(0), reference.mean(0)
    S = (features - mu).T @ (features - mu) / (n - 1)
    R = (reference - nu).T @ (reference - nu) / (m - 1)
    return float(((mu - nu) ** 2).sum() + torch.trace(S + R - 2 * root(root(R) @ S @ root(R))))


@right("09.fid")
def fid_by_singular_values(features, reference):
    x, y = features - features.mean(0), reference - reference.mean(0)
    S, R = x.T @ x / (len(x) - 1), y.T @ y / (len(y) - 1)
    cross = torch.linalg.svdvals(root(S) @ root(R)).sum()
    return torch.dist(features.mean(0), reference.mean(0)) ** 2 + S.trace() + R.trace() - 2 * cross


def parts(features, reference):
    S, R = torch.cov(features.T), torch.cov(reference.T)
    return (features.mean(0) - reference.mean(0)).square().sum(), S, R, torch.linalg.eigvals(S @ R).sqrt().real.sum()


@wrong("09.fid", "factor of two")
def fid_single_cross(features, reference):
    means, S, R, cross = parts(features, reference)
    return means + S.trace() + R.trace() - cross


@wrong("09.fid", "has a minus")
def fid_plus(features, reference):
    means, S, R, cross = parts(features, reference)
    return means + S.trace() + R.trace() + 2 * cross


@wrong("09.fid", "the root of its entries")
def fid_root_of_entries(features, reference):
    means, S, R, _ = parts(features, reference)
    return means + S.trace() + R.trace() - 2 * (S * R).sqrt().sum()


@wrong("09.fid", "one row a *feature*")
def fid_not_transposed(features, reference):
    S, R = torch.cov(features), torch.cov(reference)
    cross = torch.linalg.eigvals(S @ R).sqrt().real.sum()
    return (features.mean(0) - reference.mean(0)).square().sum() + S.trace() + R.trace() - 2 * cross


@wrong("09.fid", "take `.real`")
def fid_complex(features, reference):
    means, S, R, _ = parts(features, reference)
    return means + S.trace() + R.trace() - 2 * torch.linalg.eigvals(S @ R).sqrt().sum()


@wrong("09.fid", "in place")
def fid_in_place(features, reference):
    features -= features.mean(0)
    return fid(features, reference)


# --- 09.chance -------------------------------------------------------------------------------------------------------


@right("09.chance")
def chance(variances, n, m):
    pairs = torch.outer(variances, variances) / (variances[:, None] + variances)
    return (1 / n + 1 / m) * (1.25 * variances.sum() + 0.5 * pairs.sum())


@right("09.chance")
def chance_loop(variances, n, m):
    l, total = variances.tolist(), 0.0
    for i in range(len(l)):
        total += l[i]
        for j in range(len(l)):
            total += 0.5 * l[i] * l[j] * (2 if i == j else 1) / (l[i] + l[j])
    return total / n + total / m


@right("09.chance")
def chance_in_python(variances, n, m):
    l = variances.tolist()
    return torch.tensor((1 / n + 1 / m) * (1.25 * sum(l) + 0.5 * sum(a * b / (a + b) for a in l for b in l)))


def table(l):
    return l[:, None] * l / (l[:, None] + l)


@wrong("09.chance", "the means are missing")
def chance_no_means(l, n, m):
    return (1 / n + 1 / m) * (0.25 * l.sum() + 0.5 * table(l).sum())


@wrong("09.chance", "delta_ij")
def chance_no_delta(l, n, m):
    return (1 / n + 1 / m) * (l.sum() + 0.5 * table(l).sum())


# --- 09.interval -----------------------------------------------------------------------------------------------------


@right("09.interval")
def interval_of_python_numbers(value, resampled, level):
    low, high = (resampled.quantile(q).item() for q in ((1 - level) / 2, (1 + level) / 2))
    mean = resampled.mean().item()
    return torch.tensor([value - (high - mean), value - (low - mean)])


@right("09.interval")
def interval(value, resampled, level):
    error = resampled - resampled.mean()
    return torch.stack([value - error.quantile((1 + level) / 2), value - error.quantile((1 - level) / 2)])


@right("09.interval")
def interval_of_plausible_means(value, resampled, level):
    plausible = value - (resampled - resampled.mean())  # turned over
    tail = (1 - level) / 2
    return torch.quantile(plausible, torch.tensor([tail, 1 - tail], dtype=plausible.dtype))


def ends(resampled, level):
    return resampled.quantile((1 - level) / 2), resampled.quantile((1 + level) / 2)


@wrong("09.interval", "twice the bias")
def interval_percentile(value, resampled, level):
    return torch.stack(ends(resampled, level))


@wrong("09.interval", "not the value")
def interval_basic(value, resampled, level):
    low, high = ends(resampled, level)
    return torch.stack([value - (high - value), value - (low - value)])


@wrong("09.interval", "`torch.stack([low, high])`")
def interval_of_two(value, resampled, level):
    return tuple(interval(value, resampled, level))


# --- 09.kid ----------------------------------------------------------------------------------------------------------


def kernel(a, b):
    return (a @ b.T / a.shape[1] + 1) ** 3


@right("09.kid")
def kid(features, reference):
    n, m = len(features), len(reference)
    K, L = kernel(features, features), kernel(reference, reference)
    within = (K.sum() - K.trace()) / (n * (n - 1)) + (L.sum() - L.trace()) / (m * (m - 1))
    return within - 2 * kernel(features, reference).mean()


@right("09.kid")
def kid_by_masks(features, reference):
    def within(z):
        return kernel(z, z)[~torch.eye(len(z), dtype=torch.bool)].mean()

    return (within(features) + within(reference) - 2 * kernel(features, reference).mean()).item()


@right("09.kid")
def kid_loop(features, reference):
    def mean(pairs):
        values = [((a * b).sum() / len(a) + 1) ** 3 for a, b in pairs]
        return sum(values) / len(values)

    def others(z):
        return [(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]

    return mean(others(features)) + mean(others(reference)) - 2 * mean([(a, b) for a in features for b in reference])


def kid_with(features, reference, k):
    def within(z):
        return (k(z, z).sum() - k(z, z).trace()) / (len(z) * (len(z) - 1))

    return within(features) + within(reference) - 2 * k(features, reference).mean()


@wrong("09.kid", "that is the bias")
def kid_with_diagonal(x, y):
    return kernel(x, x).mean() + kernel(y, y).mean() - 2 * kernel(x, y).mean()


@wrong("09.kid", "not n²")
def kid_over_n_squared(x, y):
    K, L = kernel(x, x).fill_diagonal_(0), kernel(y, y).fill_diagonal_(0)
    return K.mean() + L.mean() - 2 * kernel(x, y).mean()


@wrong("09.kid", "(n, m)")
def kid_rowwise(x, y):
    return kid_with(x, y, lambda a, b: ((a * b).sum(1) / a.shape[1] + 1) ** 3)


@wrong("09.kid", "in place")
def kid_in_place(x, y):
    x /= x.shape[1] ** 0.5
    return kid(x, y)


@right("09.kid")
def kid_in_python(features, reference):
    def mean(a, b, own):
        x, y = a.tolist(), b.tolist()
        pairs = [(p, q) for i, p in enumerate(x) for j, q in enumerate(y) if not (own and i == j)]
        return sum((sum(u * v for u, v in zip(p, q)) / len(p) + 1) ** 3 for p, q in pairs) / len(pairs)

    kid = mean(features, features, True) + mean(reference, reference, True) - 2 * mean(features, reference, False)
    return torch.tensor(kid)


# --- 09.precision ----------------------------------------------------------------------------------------------------


@right("09.precision")
def precision(samples, reference, k):
    radius = torch.cdist(reference, reference).sort(1).values[:, k]
    return (torch.cdist(samples, reference) <= radius).any(1).double().mean()


@right("09.precision")
def precision_by_kthvalue(samples, reference, k):
    radius = torch.cdist(reference, reference).kthvalue(k + 1, dim=1).values
    return (torch.cdist(reference, samples) <= radius[:, None]).any(0).sum().item() / len(samples)


@right("09.precision")
def precision_loop(samples, reference, k):
    inside = 0
    radii = [sorted(float((p - q).norm()) for q in reference)[k] for p in reference]
    for x in samples:
        inside += any((x - p).norm() <= r for p, r in zip(reference, radii))
    return inside / len(samples)


def radii(x, k):
    return torch.cdist(x, x).sort(1).values[:, k]


@wrong("09.precision", "recall")
def precision_recall_instead(samples, reference, k):
    return precision(reference, samples, k)


@wrong("09.precision", "its own nearest neighbour")
def precision_counts_itself(samples, reference, k):
    return precision(samples, reference, k - 1)


# --- what readers and attackers found ---------------------------------------------------------------------------------


@wrong("09.precision", "a ball's edge belongs to it")
def precision_strict(samples, reference, k):
    radius = torch.cdist(reference, reference).sort(1).values[:, k]
    return (torch.cdist(samples, reference) < radius).any(1).double().mean()
