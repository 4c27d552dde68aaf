"""Answers to the exercises of lesson 18."""

import math

import torch
from torch.nn import functional as F

from answers import right, wrong

# --- 18.optimal_critic -----------------------------------------------------------------------------------------------


@right("18.optimal_critic")
def optimal_critic(log_p, log_q):
    return torch.sigmoid(log_p - log_q)


@right("18.optimal_critic")
def optimal_critic_logs(log_p, log_q):
    return (log_p - torch.logaddexp(log_p, log_q)).exp()


@right("18.optimal_critic")
def optimal_critic_one_over(log_p, log_q):
    return 1 / (1 + (log_q - log_p).exp())


@wrong("18.optimal_critic", "NaN in it where both densities are tiny")
def optimal_critic_naive(log_p, log_q):
    p, q = log_p.exp(), log_q.exp()
    return p / (p + q)


@wrong("18.optimal_critic", "NaN in it where both densities are tiny, or huge")
def optimal_critic_overflows(log_p, log_q):
    return (log_p - log_q).exp() / (1 + (log_p - log_q).exp())


@wrong("18.optimal_critic", "one D* a point")
def optimal_critic_both(log_p, log_q):
    return torch.softmax(torch.stack([log_p, log_q]), 0)


@wrong("18.optimal_critic", "right shape and the wrong numbers")
def optimal_critic_eps(log_p, log_q):
    p, q = log_p.exp(), log_q.exp()
    return (p + 1e-3) / (p + q + 2e-3)


# --- 18.non_saturating -----------------------------------------------------------------------------------------------


@right("18.non_saturating")
def non_saturating(of_real, of_fake):
    return F.softplus(-of_real) + F.softplus(of_fake), F.softplus(-of_fake)


@right("18.non_saturating")
def non_saturating_bce(of_real, of_fake):
    def bce(f, y):
        return F.binary_cross_entropy_with_logits(f, torch.full_like(f, y), reduction="none")

    return [bce(of_real, 1.0) + bce(of_fake, 0.0), bce(of_fake, 1.0)]


@right("18.non_saturating")
def non_saturating_logsigmoid(of_real, of_fake):
    return -F.logsigmoid(of_real) - F.logsigmoid(-of_fake), -F.logsigmoid(of_fake)


@wrong("18.non_saturating", "where the critic is sure")
def non_saturating_overflows(of_real, of_fake):
    return -of_real.sigmoid().log() - (1 - of_fake.sigmoid()).log(), -of_fake.sigmoid().log()


@wrong("18.non_saturating", "stops growing where the critic is sure")
def non_saturating_clamped(of_real, of_fake):
    def log(p):
        return (p.double() + 1e-30).log().to(p.dtype)

    return -log(of_real.sigmoid()) - log((-of_fake).sigmoid()), -log(of_fake.sigmoid())


@wrong("18.non_saturating", "wanted two tensors")
def non_saturating_stacked(of_real, of_fake):
    return torch.stack([F.softplus(-of_real) + F.softplus(of_fake), F.softplus(-of_fake)])


# --- 18.penalty ------------------------------------------------------------------------------------------------------


@right("18.penalty")
def penalty(x, W, v):
    x = x.detach().requires_grad_()
    answers = torch.tanh(x @ W.T) @ v
    (slope,) = torch.autograd.grad(answers.sum(), x, create_graph=True)
    return slope.square().sum(1)


@right("18.penalty")
def penalty_by_hand(x, W, v):
    return ((v * (1 - torch.tanh(x @ W.T) ** 2)) @ W).pow(2).sum(-1)


@right("18.penalty")
def penalty_func(x, W, v):
    slope = torch.func.vmap(torch.func.grad(lambda one: torch.tanh(W @ one) @ v))(x)
    return (slope * slope).sum(1)


@wrong("18.penalty", "no gradient of it reaches the critic's weights")
def penalty_without_graph(x, W, v):
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad((torch.tanh(x @ W.T) @ v).sum(), x)
    return slope.square().sum(1)


@wrong("18.penalty", "by a copy that asks for it")
def penalty_of_no_copy(x, W, v):
    (slope,) = torch.autograd.grad((torch.tanh(x @ W.T) @ v).sum(), x, create_graph=True)
    return slope.square().sum(1)


@wrong("18.penalty", "the sum of the answers over the rows")
def penalty_of_rows(x, W, v):
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(torch.tanh(x @ W.T) @ v, x, create_graph=True)
    return slope.square().sum(1)


@wrong("18.penalty", "returns a tuple")
def penalty_of_a_tuple(x, W, v):
    x = x.detach().requires_grad_()
    return torch.autograd.grad((torch.tanh(x @ W.T) @ v).sum(), x, create_graph=True).square().sum(1)


@wrong("18.penalty", "W stands in it twice")
def penalty_half_detached(x, W, v):
    return ((v * (1 - torch.tanh(x @ W.T.detach()) ** 2)) @ W).pow(2).sum(-1)


# --- 18.relativistic -------------------------------------------------------------------------------------------------


@right("18.relativistic")
def relativistic(of_real, of_fake):
    return F.softplus(of_fake - of_real), F.softplus(of_real - of_fake)


@right("18.relativistic")
def relativistic_by_loop(of_real, of_fake):
    rows = [F.softplus(torch.stack([b - a, a - b])) for a, b in zip(of_real, of_fake, strict=True)]
    critic, generator = torch.stack(rows).T
    return critic, generator


@wrong("18.relativistic", "where the critic is sure")
def relativistic_overflows(of_real, of_fake):
    return -(of_real - of_fake).sigmoid().log(), -(of_fake - of_real).sigmoid().log()


@wrong("18.relativistic", "stops growing where the critic is sure")
def relativistic_clamped(of_real, of_fake):
    def log(p):
        return (p.double() + 1e-30).log().to(p.dtype)

    return -log((of_real - of_fake).sigmoid()), -log((of_fake - of_real).sigmoid())


@wrong("18.relativistic", "wanted two tensors")
def relativistic_one(of_real, of_fake):
    return F.softplus(of_fake - of_real)


# --- 18.reverse_kl ---------------------------------------------------------------------------------------------------


@right("18.reverse_kl")
def reverse_kl(counts, weights):
    q = counts / counts.sum()
    return torch.xlogy(q, q / weights).sum()


@right("18.reverse_kl")
def reverse_kl_loop(counts, weights):
    total, value = counts.sum().item(), 0.0
    for c, p in zip(counts.tolist(), weights.tolist(), strict=True):
        if c:
            value += c / total * math.log(c / total / p)
    return value


@right("18.reverse_kl")
def reverse_kl_masked(counts, weights):
    there = counts > 0
    q = counts[there].double() / counts.sum()
    return (q * (q.log() - weights[there].log())).sum()


@wrong("18.reverse_kl", "NaN or infinite where a mode has no sample")
def reverse_kl_naive(counts, weights):
    q = counts.double() / counts.sum()
    return (q * (q / weights).log()).sum()


@wrong("18.reverse_kl", "under the logarithm stands q / p")
def reverse_kl_of_a_difference(counts, weights):
    q = counts / counts.sum()
    return torch.xlogy(q, q - weights).sum()


@wrong("18.reverse_kl", "one number")
def reverse_kl_not_summed(counts, weights):
    q = counts / counts.sum()
    return torch.xlogy(q, q / weights)


@wrong("18.reverse_kl", "nothing is to be added to the counts")
def reverse_kl_smoothed(counts, weights):
    q = (counts.double() + 1) / (counts + 1).sum()
    return (q * (q / weights).log()).sum()


@wrong("18.reverse_kl", "that is KL(p || q)")
def reverse_kl_forward(counts, weights):
    q = counts / counts.sum()
    return (weights * (weights / q).log()).sum()
