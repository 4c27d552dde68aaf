"""Answers to lesson 07."""

import numpy as np
import torch

from answers import right, wrong

# --- 07.weight -------------------------------------------------------------------------------------------------------


@right("07.weight")
def weight(snr, kind, gamma):
    return {"x0": torch.ones_like(snr), "eps": snr, "v": snr + 1, "min_snr": snr.clamp(max=gamma)}[kind]


@right("07.weight")
def weight_by_ifs(snr, kind, gamma):
    if kind == "x0":
        return snr**0
    if kind == "eps":
        return snr.clone()
    if kind == "v":
        return 1 + snr
    return torch.minimum(snr, torch.full_like(snr, gamma))


@right("07.weight")
def weight_by_alpha_and_sigma(snr, kind, gamma):
    sigma2 = 1 / (1 + snr)
    alpha2 = 1 - sigma2
    if kind == "min_snr":
        return torch.where(snr < gamma, snr, gamma)
    return {"x0": alpha2 + sigma2, "eps": alpha2 / sigma2, "v": 1 / sigma2}[kind].to(snr.dtype)


def weight_but(kind, other):
    """The right answer except for one kind."""
    return lambda snr, k, gamma: other(snr, gamma) if k == kind else weight(snr, k, gamma)


for name, kind, said, other in [
    ("x0_as_eps", "x0", "what w multiplies", lambda snr, gamma: snr),
    ("x0_inverse", "x0", "needs no conversion", lambda snr, gamma: 1 / snr),
    ("x0_number", "x0", "should be a tensor", lambda snr, gamma: 1.0),
    ("x0_one", "x0", "one weight for each SNR", lambda snr, gamma: torch.ones(1, dtype=snr.dtype)),
    ("eps_inverse", "eps", "upside down", lambda snr, gamma: 1 / snr),
    ("eps_root", "eps", "no root", lambda snr, gamma: snr.sqrt()),
    ("eps_as_v", "eps", "the weight of v", lambda snr, gamma: snr + 1),
    ("eps_own_units", "eps", "own units", lambda snr, gamma: torch.ones_like(snr)),
    ("v_as_eps", "v", "the picture as well", lambda snr, gamma: snr),
    ("v_inverse", "v", "not 1 / SNR + 1", lambda snr, gamma: 1 + 1 / snr),
    ("v_root", "v", "not 1 / sigma", lambda snr, gamma: (1 + snr).sqrt()),
    ("v_as_score", "v", "weight of the score", lambda snr, gamma: snr * (1 + snr)),
    ("min_as_max", "min_snr", "the smaller of the two", lambda snr, gamma: snr.clamp(min=gamma)),
    ("min_eps_units", "min_snr", "do not divide by the SNR", lambda snr, gamma: snr.clamp(max=gamma) / snr),
    ("min_fixed_gamma", "min_snr", "gamma is an argument", lambda snr, gamma: snr.clamp(max=5)),
    ("min_without_ceiling", "min_snr", "ceiling gamma is missing", lambda snr, gamma: snr),
]:
    function = weight_but(kind, other)
    function.__name__ = f"weight_{name}"
    wrong("07.weight", said)(function)


@wrong("07.weight", "in place")
def weight_in_place(snr, kind, gamma):
    return snr.clamp_(max=gamma) if kind == "min_snr" else weight(snr, kind, gamma)


# --- 07.ema ----------------------------------------------------------------------------------------------------------


@right("07.ema")
def ema(average, weights, step, decay):
    d = min(decay, (1 + step) / (10 + step))
    return d * average + (1 - d) * weights


@right("07.ema")
def ema_lerp(average, weights, step, decay):
    return torch.lerp(average, weights, 1 - min(decay, 1 - 9 / (10 + step)))


@right("07.ema")
def ema_by_correction(average, weights, step, decay):
    return average + max(1 - decay, 9 / (10 + step)) * (weights - average)


@wrong("07.ema", "swapped")
def ema_swapped(average, weights, step, decay):
    return ema(weights, average, step, decay)


@wrong("07.ema", "warm-up is missing")
def ema_constant(average, weights, step, decay):
    return decay * average + (1 - decay) * weights


@wrong("07.ema", "not the larger")
def ema_max(average, weights, step, decay):
    d = max(decay, (1 + step) / (10 + step))
    return d * average + (1 - d) * weights


@wrong("07.ema", "in place")
def ema_in_place(average, weights, step, decay):
    d = min(decay, (1 + step) / (10 + step))
    return average.mul_(d).add_((1 - d) * weights)


@wrong("07.ema", "returned None")
def ema_no_return(average, weights, step, decay):
    ema(average, weights, step, decay)


# --- 07.clip ---------------------------------------------------------------------------------------------------------


def length(gradients):
    return sum(g.square().sum() for g in gradients).sqrt().item()


@right("07.clip")
def clip(gradients, limit):
    norm = length(gradients)
    return [g * limit / norm for g in gradients] if norm > limit else gradients


@right("07.clip")
def clip_like_pytorch(gradients, limit):
    norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
    return [g * (limit / (norm + 1e-6)).clamp(max=1.0) for g in gradients]


@right("07.clip")
def clip_one_vector(gradients, limit):
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return tuple(g * min(1.0, limit / max(norm.item(), limit)) for g in gradients)


@wrong("07.clip", "each by its own")
def clip_each(gradients, limit):
    return [g * min(1.0, limit / g.norm().item()) if g.norm() > 0 else g for g in gradients[:1]] + [
        g * min(1.0, limit / max(g.norm().item(), 1e-12)) for g in gradients[1:]
    ]


@wrong("07.clip", "makes it longer")
def clip_always(gradients, limit):
    return [g * limit / length(gradients) for g in gradients]


@wrong("07.clip", "in place")
def clip_in_place(gradients, limit):
    for g in gradients:
        g *= min(1.0, limit / length(gradients))
    return gradients


@wrong("07.clip", "all zero should stay zero")
def clip_nan(gradients, limit):
    factor = torch.tensor(limit) / torch.tensor(length(gradients))
    return [g * factor.clamp(max=1.0) if factor.isfinite() else g * factor for g in gradients]


@wrong("07.clip", "a list of")
def clip_one_tensor(gradients, limit):
    return torch.cat([g.flatten() for g in gradients]).clamp(max=limit)


@wrong("07.clip", "shorten only what is longer")
def clip_by_division(gradients, limit):
    length = torch.cat([g.flatten() for g in gradients]).norm().item()
    return [g * min(1.0, limit / length) for g in gradients]


# --- 07.noise --------------------------------------------------------------------------------------------------------


@right("07.noise")
def noise(seed, step, n):
    mixed = np.random.SeedSequence((seed, step)).generate_state(1)[0]
    return torch.randn(n, generator=torch.Generator().manual_seed(int(mixed)))


@right("07.noise")
def noise_hash(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(hash((seed, step))))


@right("07.noise")
def noise_numpy(seed, step, n):
    return torch.from_numpy(np.random.default_rng([seed, step]).standard_normal(n))


@wrong("07.noise", "two answers")
def noise_unseeded(seed, step, n):
    return torch.from_numpy(np.random.default_rng().standard_normal(n))


generator = torch.Generator().manual_seed(0)


@wrong("07.noise", "two answers")
def noise_one_generator(seed, step, n):
    return torch.randn(n, generator=generator)


@wrong("07.noise", "the step must have a say")
def noise_without_step(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


@wrong("07.noise", "the seed must have a say")
def noise_without_seed(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(step))


@wrong("07.noise", "a step later")
def noise_sum(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed + step))


@wrong("07.noise", "seed * step is 0")
def noise_product(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed * step))


@wrong("07.noise", "SeedSequence")
def noise_thousand(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(1000 * seed + step))


@wrong("07.noise", "SeedSequence")
def noise_times_a_prime(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + step))


@wrong("07.noise", "takes the lower 32 bits")
def noise_of_bits(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(step << 20 | seed))


@wrong("07.noise", "drew random numbers")
def noise_global(seed, step, n):
    torch.manual_seed(seed * 1_000_003 + step)
    return torch.randn(n)


@wrong("07.noise", "not standard normal")
def noise_uniform(seed, step, n):
    return torch.rand(n, generator=torch.Generator().manual_seed(hash((seed, step))))


@wrong("07.noise", "not standard normal")
def noise_wide_uniform(seed, step, n):
    return noise_uniform(seed, step, n) * 12**0.5 - 3**0.5


@wrong("07.noise", "moved by one")
def noise_slice(seed, step, n):
    return torch.randn(10_000 + 5000 + n, generator=torch.Generator().manual_seed(seed))[step : step + n]


@wrong("07.noise", "as one vector")
def noise_column(seed, step, n):
    return noise(seed, step, n)[:, None]


# --- 07.go_on --------------------------------------------------------------------------------------------------------


def steps(w, m, rows, x, y, lr, beta=0.9, two=2):
    for row in rows:
        m = beta * m + two * (x[row % len(x)] @ w - y[row % len(x)]) * x[row % len(x)]
        w = w - lr * m
    return w, m


@right("07.go_on")
def go_on(state, x, y, until, lr):
    w, m = steps(state["w"], state["m"], range(state["step"], until), x, y, lr)
    return {"w": w, "m": m, "step": until}


@right("07.go_on")
def go_on_while(state, x, y, until, lr):
    state = {name: value + 0 for name, value in state.items()}
    while state["step"] < until:
        row = state["step"] % len(x)
        state["m"] = 0.9 * state["m"] + 2 * (x[row] @ state["w"] - y[row]) * x[row]
        state["w"] = state["w"] - lr * state["m"]
        state["step"] += 1
    return state


@right("07.go_on")
def go_on_autograd(state, x, y, until, lr):
    w, m = state["w"].clone().requires_grad_(True), state["m"].clone()
    optimizer = torch.optim.SGD([w], lr=lr, momentum=0.9)
    optimizer.state[w]["momentum_buffer"] = m
    for step in range(state["step"], until):
        optimizer.zero_grad()
        (x[step % len(x)] @ w - y[step % len(x)]).square().backward()
        optimizer.step()
    return {"w": w.detach(), "m": optimizer.state[w]["momentum_buffer"], "step": until}


@wrong("07.go_on", "momentum begins at zero")
def go_on_no_momentum_state(state, x, y, until, lr):
    w, m = steps(state["w"], 0 * state["m"], range(state["step"], until), x, y, lr)
    return {"w": w, "m": m, "step": until}


@wrong("07.go_on", "first row again")
def go_on_restarts_data(state, x, y, until, lr):
    w, m = steps(state["w"], state["m"], range(until - state["step"]), x, y, lr)
    return {"w": w, "m": m, "step": until}


@wrong("07.go_on", "would repeat these steps")
def go_on_old_step(state, x, y, until, lr):
    return go_on(state, x, y, until, lr) | {"step": state["step"]}


@wrong("07.go_on", "what comes in must go out")
def go_on_forgets_momentum(state, x, y, until, lr):
    return {"w": go_on(state, x, y, until, lr)["w"], "step": until}


@wrong("07.go_on", "in place")
def go_on_in_place(state, x, y, until, lr):
    for step in range(state["step"], until):
        row = step % len(x)
        state["m"] = 0.9 * state["m"] + 2 * (x[row] @ state["w"] - y[row]) * x[row]
        state["w"] -= lr * state["m"]
    return state | {"step": until}


@wrong("07.go_on", "after the last row comes the first")
def go_on_no_wrap(state, x, y, until, lr):
    w, m = state["w"], state["m"]
    for step in range(state["step"], until):
        m = 0.9 * m + 2 * (x[step] @ w - y[step]) * x[step]
        w = w - lr * m
    return {"w": w, "m": m, "step": until}


# --- what readers and attackers found ---------------------------------------------------------------------------------


@wrong("07.noise", "get the same noise")
def noise_seed_times_37(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(37 * seed + step))


@wrong("07.noise", "get the same noise")
def noise_seed_times_199(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(199 * seed + step))


@wrong("07.noise", "get the same noise")
def noise_ten_steps(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed + 10 * step))


@wrong("07.noise", "get the same noise")
def noise_joined(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(int(f"{seed}{step}")))


@wrong("07.noise", "get the same noise")
def noise_four_thousand(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(4096 * seed + step))


@wrong("07.noise", "get the same noise")
def noise_xor(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed ^ step))


@wrong("07.noise", "get the same noise")
def noise_last_digit_of_the_seed(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(1_000_003 * (seed % 7) + step))


@wrong("07.noise", "get the same noise")
def noise_hundred_steps(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(1_000_003 * seed + step % 100))


@wrong("07.noise", "lower 32 bits")
def noise_shifted_out(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed << 32 | step))


@wrong("07.noise", "two answers")
def noise_text_hash(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(hash(f"{seed}/{step}")))


@wrong("07.noise", "correlated")
def noise_mixed(seed, step, n):
    return 0.6 * noise(seed, 10**6, n) + 0.8 * noise(seed, step, n)


@wrong("07.noise", "in another order")
def noise_turned(seed, step, n):
    return noise(seed, 10**6, n).roll(step)


@wrong("07.noise", "with other signs")
def noise_signs(seed, step, n):
    return noise(seed, 10**6, n) * (-1) ** (torch.arange(n) // (step + 1) % 2)


@right("07.noise")
def noise_by_hash_of_numbers(seed, step, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(hash((seed, step))))
