"""Masked diffusion: the bound beside exact likelihoods, samplers beside exact laws; true sums, a verified text."""

import itertools
import math

import pytest
import torch

from course_utils import recipes, text
from course_utils.data import texts
from course_utils.files import DataError
from course_utils.runs import Training
from course_utils.tasks import NextToken, Unmasking
from course_utils.text import kernel, unmasking
from course_utils.training import train

SIXTEEN = torch.cartesian_prod(*[torch.arange(2)] * 4)
LANGUAGE = text.Language(SIXTEEN, 2, torch.rand(16, generator=torch.Generator().manual_seed(1)) ** 3)
TWO = text.Language(torch.tensor([[0, 1], [1, 0]]), 2)
THREE = text.Language(torch.tensor([[0, 1, 2], [2, 1, 0], [1, 1, 0], [2, 2, 1]]), 3, torch.tensor([0.1, 0.2, 0.3, 0.4]))


def even(T):
    return [i / T for i in range(T + 1)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def warm(language, power):
    """A denoiser that is wrong: the exact one's probabilities to a power."""
    return lambda x: (power * language.predict(x)).log_softmax(-1)


def left_to_right(predict, x_0, order, mask):
    """-log p by the chain rule in one order, term by term."""
    total = torch.zeros(len(x_0), dtype=torch.float64)
    for k in range(len(order)):
        x_t = x_0.clone()
        x_t[:, order[k:]] = mask
        total -= predict(x_t)[:, order[k]].gather(1, x_0[:, order[k], None])[:, 0]
    return total


# --- the bound --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", [LANGUAGE, THREE])
def test_the_exact_denoisers_bound_is_the_likelihood(language):
    x_0 = language.sentences
    torch.testing.assert_close(text.exact_bound(language.predict, x_0, language.mask), -language.log_prob(x_0))


@pytest.mark.parametrize("language", [LANGUAGE, THREE])
def test_the_bound_is_the_mean_over_all_orders_of_the_chain_rule(language):
    predict, x_0 = warm(language, 0.6), language.sentences
    orders = list(itertools.permutations(range(x_0.shape[1])))
    mean = sum(left_to_right(predict, x_0, list(order), language.mask) for order in orders) / len(orders)
    torch.testing.assert_close(text.exact_bound(predict, x_0, language.mask), mean)


def test_the_discrete_bound_is_the_divergence_of_the_chains_step_by_step():
    """KL of q(x_s | x_t, x_0) from p(x_s | x_t), both as tables over all states, averaged over q(x_t | x_0)."""
    predict, x_0, grid, states = warm(THREE, 0.7), THREE.sentences[:1], [0.0, 0.3, 0.45, 1.0], THREE.states
    told = torch.nn.functional.one_hot(x_0, 3).double().clamp(1e-300).log()
    total = 0.0
    for a_t, a_s in itertools.pairwise(grid):
        fits = ((states == x_0) | (states == 3)).all(1)
        hidden = (states == 3).sum(1)
        q_t = torch.where(fits, a_t ** (3 - hidden).double() * (1 - a_t) ** hidden.double(), 0.0)
        q = text.reverse_kernel(lambda s: told.expand(len(s), -1, -1), states, 3, a_t, a_s)
        p = text.reverse_kernel(predict, states, 3, a_t, a_s)
        kl = torch.where(q > 1e-200, q * (q / p).log(), 0.0).sum(1)
        total += torch.where(q_t > 0, q_t * kl, 0.0).sum()
    torch.testing.assert_close(text.exact_bound(predict, x_0, 3, grid)[0], total)


def test_few_steps_cost_more_and_many_cost_what_infinitely_many_do():
    bounds = [text.exact_bound(LANGUAGE.predict, SIXTEEN, 2, even(T)) for T in (1, 2, 4, 8)]
    exact = -LANGUAGE.log_prob(SIXTEEN)
    p = exact.neg().exp()
    gaps = [(p * (bound - exact)).sum().item() for bound in bounds]  # a KL: never negative
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3] > 0
    fine = [(p * (text.exact_bound(LANGUAGE.predict, SIXTEEN, 2, even(T)) - exact)).sum() for T in (500, 1000)]
    assert (fine[0] / fine[1]).item() == pytest.approx(2, abs=0.02)  # of first order in the length of a step
    single = torch.stack([(p[:, None] * (v == SIXTEEN)).sum(0) for v in (0, 1)])  # of each position by itself
    product = -torch.stack([single[SIXTEEN[:, i], i].log() for i in range(4)]).sum(0)
    torch.testing.assert_close(bounds[0], product)  # one step: letters are drawn from their own laws


SCHEDULES = {
    "line": lambda t: 1 - t,
    "cosine": lambda t: torch.cos(torch.pi / 2 * t) ** 2,
    "square": lambda t: 1 - t**2,
}


@pytest.mark.parametrize("alpha", SCHEDULES.values(), ids=SCHEDULES)
def test_draws_at_random_times_have_the_bound_as_their_mean_whatever_the_schedule(alpha):
    predict, n = warm(LANGUAGE, 0.8), 40_000
    exact = text.exact_bound(predict, SIXTEEN[5:6], 2).item()
    t = (torch.arange(n) + 0.5).double() / n
    draws = text.at_a_time(predict, SIXTEEN[5:6].repeat(n, 1), alpha, t, 2, seeded())
    error = draws.std().item() / n**0.5
    assert error < 0.05 * exact
    assert abs(draws.mean().item() - exact) < 4.5 * error
    flat = [
        text.of_hidden(
            predict, SIXTEEN[5:6].repeat(n, 1), text.hidden_at_random(SIXTEEN[5:6].repeat(n, 1), alpha(t), seeded()), 2
        )
    ]
    assert abs(flat[0].mean().item() - exact) > 10 * error  # without its weight it is another number


def test_draws_by_counts_have_the_bound_as_their_mean_and_less_spread():
    predict, n = warm(LANGUAGE, 0.8), 40_000
    x_0 = SIXTEEN[5:6].repeat(n, 1)
    exact = text.exact_bound(predict, SIXTEEN[5:6], 2).item()
    draws = text.by_counts(predict, x_0, 2, seeded())
    assert abs(draws.mean().item() - exact) < 4.5 * draws.std().item() / n**0.5
    at_times = text.at_a_time(predict, x_0, SCHEDULES["line"], torch.rand(n, generator=seeded()).double(), 2, seeded())
    assert draws.std() < 0.5 * at_times.std()


def test_hidden_sets_have_every_size_as_often_and_every_place():
    hidden = text.hidden_counts(7000, 7, seeded())
    assert hidden.sum(1).bincount(minlength=8).tolist() == [0, *[1000] * 7]
    assert (hidden.double().mean(0) - 4 / 7).abs().max() < 5 * (0.25 / 7000) ** 0.5
    assert not torch.equal(hidden.sum(1), hidden.sum(1).sort().values)  # sizes are in no order


def test_what_is_hidden_when_is_kept_with_the_share_of_its_row():
    x_0 = torch.zeros(3, 40_000, dtype=torch.long)
    hidden = text.hidden_at_random(x_0, torch.tensor([0.0, 0.3, 1.0]).double(), seeded())
    assert hidden[0].all()
    assert not hidden[2].any()
    assert abs(hidden[1].double().mean().item() - 0.7) < 5 * (0.21 / 40_000) ** 0.5


def test_a_denoiser_that_says_impossible_makes_the_bound_infinite_not_nan():
    never = lambda x: torch.tensor([0.0, -math.inf]).expand(*x.shape, 2)  # noqa: E731
    assert text.of_hidden(never, torch.tensor([[0, 1]]), torch.tensor([[True, False]]), 2).item() == 0
    assert text.of_hidden(never, torch.tensor([[0, 1]]), torch.tensor([[False, True]]), 2).item() == math.inf
    with pytest.raises(TypeError, match="hidden: wanted a tensor of true and false"):
        text.of_hidden(never, torch.tensor([[0, 1]]), torch.tensor([[0, 1]]), 2)
    with pytest.raises(ValueError, match="kept: wanted alphas that rise from 0 to 1"):
        text.exact_bound(never, torch.tensor([[0, 1]]), 2, [0.0, 0.7, 0.7, 1.0])


# --- samplers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("T", [1, 2, 5, 16])
def test_of_two_letters_one_in_2T_is_wrong_with_the_exact_denoiser(T):
    law = text.law_of(TWO, even(T))
    wrong = [0, 4]  # aa and bb of the nine states
    assert TWO.states[wrong].tolist() == [[0, 0], [1, 1]]
    torch.testing.assert_close(law[wrong].sum().item(), 1 / (2 * T))
    assert law.sum().item() == pytest.approx(1)
    assert law[(TWO.states == 2).any(1)].sum() < 1e-15  # no blank is left


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_ancestral_draws_follow_their_exact_law(steps):
    n, states = 20_000, THREE.states
    law = text.law_of(THREE, even(steps))
    x = text.sample_ancestral(THREE.predict, torch.full((n, 3), 3), 3, steps, generator=seeded())
    found = (x[:, None] == states).all(-1).double().mean(0)
    error = (law * (1 - law) / n).sqrt()
    assert ((found - law).abs() < 5 * error + 1e-12).all()


def frequencies(language, by, n=20_000):
    start = torch.full((n, language.sentences.shape[1]), language.mask)
    x = text.sample_chosen(language.predict, start, language.mask, start.shape[1], by=by, generator=seeded())
    return (x[:, None] == language.sentences).all(-1).double().mean(0)


@pytest.mark.parametrize("by", ["random", "sure"])
@pytest.mark.parametrize("language", [LANGUAGE, THREE])
def test_one_letter_at_a_time_is_right_if_the_order_is_chosen_before_the_letter(language, by):
    p = language.log_weights.exp()
    assert ((frequencies(language, by) - p).abs() < 5 * (p * (1 - p) / 20_000).sqrt() + 1e-12).all()


def test_an_order_that_looks_at_what_was_drawn_has_another_law():
    """Two letters that know nothing of each other, 1 with probability 0.9: the first to be kept is a 1 if any is."""
    p = torch.tensor([0.01, 0.09, 0.09, 0.81])
    alone = text.Language(torch.cartesian_prod(*[torch.arange(2)] * 2), 2, p)
    twisted = torch.tensor(
        [0.01 * 0.1, 0.108 / 2, 0.108 / 2, 0.99 * 0.9]
    )  # 00; 01 and 10 together 0.99 · 0.1 + 0.01 · 0.9
    found = frequencies(alone, "drawn")
    error = 5 * (twisted * (1 - twisted) / 20_000).sqrt()
    assert abs(found[0] - twisted[0]) < error[0]
    assert abs(found[3] - twisted[3]) < error[3]
    assert ((found - p).abs() > 2 * error)[[0, 3]].all()


@pytest.mark.parametrize("steps", [1, 2, 4, 9])
@pytest.mark.parametrize("by", ["random", "sure", "drawn", None])
def test_samplers_carry_what_is_known_and_leave_no_blank(by, steps):
    x_T = torch.tensor([[0, 3, 3], [3, 1, 3], [1, 1, 0], [3, 3, 3], [0, 0, 3]])  # the last fits no sentence
    before = x_T.clone()
    if by is None:
        x = text.sample_ancestral(THREE.predict, x_T, 3, steps, generator=seeded())
    else:
        x = text.sample_chosen(THREE.predict, x_T, 3, steps, by=by, generator=seeded())
    assert torch.equal(x_T, before)
    assert torch.equal(x[before != 3], before[before != 3])
    assert (x < 3).all()


def test_as_many_letters_come_in_each_step():
    counts = []
    text.sample_chosen(
        lambda x: torch.zeros(*x.shape, 2), torch.full((2, 7), 2), 2, 3, by="random", generator=seeded(),
        callback=lambda x: counts.append((x == 2).sum(1).tolist()),
    )  # fmt: skip
    assert counts == [[4, 4], [2, 2], [0, 0]]


def test_letters_are_drawn_as_often_as_they_are_likely_even_the_rarest():
    p = torch.tensor([0.5, 0.3, 0.2 - 1e-4, 1e-4])
    x = unmasking.draw_tokens(p.log().expand(400, 1000, 4), seeded())
    found = x.flatten().bincount(minlength=4) / 400_000
    assert ((found - p).abs() < 5 * (p * (1 - p) / 400_000).sqrt()).all()


# --- networks and tasks -----------------------------------------------------------------------------------------------


def stirred(network):
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=seeded())
    return network.eval()


@pytest.mark.parametrize("reach", [0, 2])
def test_the_twin_looks_back_only_and_ours_at_all(reach):
    for causal in (False, True):
        network = stirred(text.TokenTransformer(5, 6, 16, 2, 2, causal, reach))
        x = torch.tensor([[0, 1, 2, 3, 4, 0]])
        before = network(x)
        torch.testing.assert_close(before.exp().sum(-1), torch.ones(1, 6))
        changed = (network(torch.tensor([[0, 1, 2, 4, 4, 0]])) - before).abs().amax(-1)[0] > 1e-6
        assert changed.tolist() == ([False] * 4 + [True] * 2 if causal else [True] * 6)
    sizes = [sum(p.numel() for p in text.TokenTransformer(5, 6, causal=c).parameters()) for c in (False, True)]
    assert sizes[0] == sizes[1]


def test_the_twins_probabilities_of_all_texts_sum_to_one():
    network = stirred(text.TokenTransformer(2, 4, 8, 1, 2, True, reach=1)).double()
    total = text.sequence_log_prob(network(SIXTEEN), SIXTEEN).sum(1).double().exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-5)
    n = 20_000
    x = text.sample_left_to_right(network, n, 4, 2, generator=seeded())
    p = text.sequence_log_prob(network(SIXTEEN), SIXTEEN).sum(1).double().exp()
    found = (x[:, None] == SIXTEEN).all(-1).double().mean(0)
    assert ((found - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()


def test_the_tasks_are_the_bound_and_the_likelihood_a_token():
    run = Training(stirred(text.TokenTransformer(2, 4, 8, 1, 2)), precision=torch.float32)
    with torch.no_grad():
        losses, share = Unmasking()(run, SIXTEEN.repeat(2500, 1), None, seeded())
        exact = text.exact_bound(run.model, SIXTEEN, 2).mean().item() / 4
    assert abs(losses.mean().item() - exact) < 5 * losses.std().item() / 40_000**0.5
    assert sorted(set(share.tolist())) == [0.25, 0.5, 0.75, 1.0]
    twin = Training(stirred(text.TokenTransformer(2, 4, 8, 1, 2, True)), precision=torch.float32)
    with torch.no_grad():
        losses, _ = NextToken()(twin, SIXTEEN, None, seeded())
        log_p = text.sequence_log_prob(twin.model(SIXTEEN), SIXTEEN).sum(1)
    torch.testing.assert_close(losses, -log_p / 4)


@pytest.mark.slow
def test_a_small_network_learns_a_small_language():
    torch.manual_seed(0)
    network = text.TokenTransformer(3, 3, 32, 2, 2)
    run = Training(network, lr=5e-3, ema=0.9, precision=torch.float32)
    rows = THREE.sentences[torch.multinomial(THREE.log_weights.exp(), 4000, True, generator=seeded())]
    for _ in train(run, rows, steps=400, batch_size=64, task=Unmasking(), warmup=20):
        pass
    model = run.averaged()
    p = THREE.log_weights.exp()
    with torch.no_grad():
        bound = (p * text.exact_bound(model, THREE.sentences, 3)).sum().item()
    assert THREE.entropy - 0.03 < bound < THREE.entropy + 0.1


def test_neighbours_are_looked_at_to_both_sides_or_before():
    """With attention silenced, a block sees `reach` to each side, or 2 reach of the letters before the one it says."""
    for causal, seen in ((False, {1, 2, 3, 4, 5}), (True, {4, 5, 6, 7, 8})):
        network = stirred(text.TokenTransformer(5, 10, 16, 1, 2, causal, 2))
        for weight in network.blocks[0].out.parameters():
            torch.nn.init.zeros_(weight)
        x = torch.zeros(1, 10, dtype=torch.long)
        other = x.clone()
        other[0, 3] = 2
        changed = (network(other) - network(x)).abs().amax(-1)[0] > 1e-7
        assert set(changed.nonzero()[:, 0].tolist()) == seen


# --- sums and texts ---------------------------------------------------------------------------------------------------


def test_sums_are_the_ten_thousand_true_ones():
    sums = text.all_sums()
    for row in text.DIGITS.decode(sums)[::37]:
        left, result = row.split("=")
        assert sum(map(int, left.split("+"))) == int(result)
    assert text.are_true(sums).all()
    assert len(sums.unique(dim=0)) == 10_000
    false = [" 1+ 1=  3", "12+ 7=190", "12+ 7= 1_", "01+ 1=  2", "1 + 1=  2", "12+07= 19", "12+ 7==19"]
    assert not text.are_true(torch.stack([text.DIGITS.encode(line) for line in false])).any()
    seen, unseen = text.shuffled_sums()
    assert len(torch.cat([seen, unseen]).unique(dim=0)) == 10_000


def test_blanks_are_one_to_six_and_the_exact_denoiser_fills_them_all():
    exact, (_, unseen) = text.Language(text.all_sums(), 13), text.shuffled_sums()
    blank = text.blanked(unseen, seeded())
    assert (blank == 13).sum(1).bincount(minlength=7)[1:].min() > 250
    assert torch.equal(blank[blank != 13], unseen[blank != 13])
    assert text.fill_blanks(exact.predict, unseen[:60], generator=seeded()).all()
    assert exact.entropy == pytest.approx(math.log(10_000))


def test_the_poem_is_verified_folded_and_cut(tmp_path, monkeypatch):
    train_text, test_text = (texts.load_text(split=split) for split in texts_splits())
    assert train_text.startswith("of man's first disobedience, and the fruit\n")
    assert test_text.endswith("through eden took their solitary way.\n")
    assert set(train_text) == set(texts.LETTERS)
    assert len(train_text) > 5 * len(test_text) > 300_000
    rows = texts.held_out_rows(128, 10)
    alphabet = text.Alphabet(texts.LETTERS)
    assert all(row in test_text for row in alphabet.decode(rows))
    assert alphabet.decode(texts.held_out_rows(64))[0] == test_text[:64]
    batch = alphabet.decode(texts.random_rows(40)(5, seeded()))
    assert all(row in train_text for row in batch)
    assert len(set(batch)) == 5
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"paradise_lost": {"bytes": 4, "sha256": "0"}}')
    (folder / "paradise_lost.txt").write_text("torn")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"paradise_lost\.txt: is damaged"):
        texts.load_text()


def texts_splits():
    return ("train", "test")


def test_recipes_of_text_know_their_alphabets():
    for name in ("sums", "text-masked", "text-twin"):
        recipe = recipes.RECIPES[name]
        model = recipes.make_model(recipe)
        letters = text.DIGITS.letters if name == "sums" else texts.LETTERS
        assert model.vocabulary == len(letters)
        data, labels = recipes.load_data(recipe)
        assert labels is None
        rows = data(4, seeded()) if callable(data) else data[:4]
        assert rows.shape == (4, model.length)
    assert recipes.make_model(recipes.RECIPES["text-twin"]).causal
    with pytest.raises(ValueError, match="x: wanted tokens"):
        model(torch.zeros(2, 300, dtype=torch.long))
    assert kernel.__doc__
