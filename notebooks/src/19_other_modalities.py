# %% [markdown]
# # 19 · Other modalities
#
# *You will make noise for text out of blanks, derive the bound that its loss is, and prove it on a language small enough
# to list; see why few steps are wrong even with a perfect network; then let the samplers of this course play notes whose
# pitch is measured, and draw films whose motion is. About 70 minutes to read and run, 50 to solve its six exercises.
# Natural breaks come after sections 4 and 6.*

# %% tags=["fold"]
# @title Imports
import math

import matplotlib.pyplot as plt
import torch
from IPython.display import Audio, display
from torch import Tensor

from course_utils import film, guidance, inpainting, samplers, sound, text
from course_utils.classifier import look_at
from course_utils.data import load_images
from course_utils.data.texts import LETTERS, held_out_rows
from course_utils.exercises import check, progress
from course_utils.plotting import (
    BLACK,
    BLUE,
    ORANGE,
    SKY,
    image_grid,
    show,
    show_film,
    use_style,
)
from course_utils.pretrained import load_classifier, load_denoiser, load_network
from course_utils.runtime import varies
from course_utils.tasks.tokens import in_words
from course_utils.widgets import choice, explore, slider

use_style()

# %% [markdown]
# ## The question
#
# Take a letter, write down its number, and add a little Gaussian noise.

# %%
verse = "of man's first disobedience, and the fruit"
letters = text.Alphabet(LETTERS)
numbers = letters.encode(verse)
for sigma in (0.0, 0.5, 1.0, 2.0):
    noise = torch.randn(len(numbers), generator=lesson.generator)
    noisy = (numbers + sigma * noise).round().long().clamp(0, len(letters) - 1)
    line = letters.decode(noisy[None])[0].replace("\n", " ")
    print(f"sigma = {sigma}:", line)

# %% [markdown]
# A picture with a little noise is nearly that picture. Here *e* becomes *d* or *f*, as if those were nearly *e*. They are
# not: the numbers are names. And what would a best guess be, a mean of letters? Between *a* and *c* lies *b*, which was
# never meant.
#
# **What is noise, if a thing is not a picture?** All that lesson 01 asked of it was this: it takes what is there away, bit
# by bit, in a way we can compute, until nothing is left but something we can draw by ourselves. *Commit to a guess: for
# which of these must the course's schedules, samplers and training be replaced by others?*

# %% tags=["widget", "fold"]
# @title Your guess
guess = choice("", ["text", "sound", "film", "all three", "none"])
guess

# %% [markdown]
# ## 1 · Blanks
#
# Text can be taken away letter by letter: put a blank, MASK, in its place. At time $t$ each letter is still there with
# probability $\alpha_t$, which falls from 1 to 0, and each has its own luck:
#
# $$q(x_t^i = x_0^i) = \alpha_t, \qquad q(x_t^i = \text{MASK}) = 1 - \alpha_t. \tag{19.1}$$
#
# MASK is one more number, that after the last letter's. A letter once gone stays gone.
#
# ### Exercise 1 · Hidden letters
# *5 minutes · easy · Eq. (19.1).* A letter is kept where its `u`, drawn evenly from $[0, 1)$, is below the text's `keep`.


# %% tags=["exercise"] exercise="19.hide" points=1
# Exercise 19.hide
def hide(x_0: Tensor, u: Tensor, keep: Tensor, mask: int) -> Tensor:
    """x_t of (19.1). x_0: (b, n) whole numbers; u: (b, n); keep: (b,)."""
    ### BEGIN SOLUTION
    return torch.where(u < keep[:, None], x_0, mask)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `keep[:, None]` is a column: one number for each row. `torch.where(condition, this, that)` takes a number as well.
# </details>

# %% tags=["check"]
check("19.hide", hide)

# %% [markdown]
# What should a network guess? With pictures it was the mean of all $x_0$ that could be behind $x_t$. With letters it is,
# for each blank, how probable each letter is. Bayes' rule, with $h$ blanks among $n$ letters:
#
# $$p(x_0 \mid x_t) \propto p(x_0)\;\alpha_t^{\,n-h}(1-\alpha_t)^h \quad\text{if } x_0 \text{ fits what is seen, else } 0. \tag{19.2}$$
#
# The powers are the same for every $x_0$ that fits, so they cancel: **when the letters went tells nothing.** A denoiser of
# text is a function of $x_t$ alone, `predict(x_t)`; no time goes in. Take a language with sixteen sentences, all of four
# letters *a* and *b*, of which some are spoken more often. Its exact denoiser looks through the list:

# %%
# Eq. (19.2)
ab = text.Alphabet("ab")
sixteen = torch.cartesian_prod(*[torch.arange(2)] * 4)
often = torch.rand(16, generator=torch.Generator().manual_seed(1)) ** 3
language = text.Language(sixteen, 2, often)
x_t = ab.encode("a__b")[None]
for alpha in (0.2, 0.7):
    p = language.log_prob(sixteen).exp()
    fits = (x_t == sixteen) | (x_t == 2)  # 2 is MASK
    seen = torch.where(fits, alpha, 0.0).prod(1) * ((1 - alpha) / alpha) ** 2
    by_bayes = (p * seen)[:, None] * (sixteen == 1)
    by_bayes = by_bayes.sum(0) / (p * seen).sum()
    torch.testing.assert_close(language.predict(x_t)[0, :, 1].exp(), by_bayes)
    print(f"alpha = {alpha}, a__b: probability of b", [f"{q:.3f}" for q in by_bayes])

# %% [markdown]
# ## 2 · The bound
#
# Lesson 03's bound on $-\log p(x_0)$ is a sum of divergences, one a step. From $t$ to an earlier time $s$, a blank of a
# *known* sentence stays a blank or becomes its letter:
#
# $$q(x_s^i = \text{MASK} \mid x_t^i = \text{MASK}) = \frac{1 - \alpha_s}{1 - \alpha_t}, \qquad
#   q(x_s^i = x_0^i \mid x_t^i = \text{MASK}, x_0) = \frac{\alpha_s - \alpha_t}{1 - \alpha_t}. \tag{19.3}$$
#
# The model does the same with the letter drawn from `predict`. Both leave a blank equally often, so of their divergence
# only the rest counts: there the truth is sure of one letter, and the model gave it $p(x_0^i \mid x_t)$.
#
# $$\text{KL} = \frac{\alpha_s - \alpha_t}{1 - \alpha_t} \sum_{i \text{ blank}} -\log p(x_0^i \mid x_t). \tag{19.4}$$
#
# Let the steps become infinitely many. $\alpha_s - \alpha_t$ becomes $-\alpha_t'\,\mathrm dt$, and the bound an integral:
#
# $$-\log p(x_0) \;\le\; \int_0^1 \frac{-\alpha_t'}{1 - \alpha_t}\;
#   \mathbb E_{x_t}\Bigl[\sum_{i \text{ blank}} -\log p(x_0^i \mid x_t)\Bigr]\mathrm dt. \tag{19.5}$$
#
# It is a cross-entropy over blanks, as everybody trains it; but **with a weight**. With $\alpha_t = 1 - t$ it is $1/t$.
#
# ### Exercise 2 · What a hidden letter counts
# *10 minutes · medium · Eq. (19.5).* The integrand for one $x_t$ a text, from the log-probabilities of the right letters.


# %% tags=["exercise"] exercise="19.bound" points=1
# Exercise 19.bound
def bound_term(log_p: Tensor, hidden: Tensor, alpha: Tensor, slope: Tensor) -> Tensor:
    """(b,). log_p: (b, n), of the right letters; hidden: (b, n), true for blanks;
    alpha: alpha_t, and slope: its derivative, (b,)."""
    ### BEGIN SOLUTION
    cost = -torch.where(hidden, log_p, 0.0).sum(1)
    return -slope / (1 - alpha) * cost
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Only blanks count: `torch.where(hidden, log_p, 0.0)`. `slope` is negative, and the weight is positive.
# </details>

# %% tags=["check"]
check("19.bound", bound_term)

# %% [markdown]
# Substitute $r = 1 - \alpha_t$, the share of blanks: the weight becomes $\mathrm dr / r$, **whatever the schedule was.** Its
# shape decides how often a training sees which share, and not what is minimised. Go on: $h$ given blanks of $n$ have
# probability $r^h(1-r)^{n-h}$, and $\int r^{h-1}(1-r)^{n-h}\,\mathrm dr = 1 \big/ \bigl(h\binom nh\bigr)$. So
#
# $$\text{the bound} = \sum_{h=1}^n \frac1h\;\operatorname*{mean}_{\text{sets of } h \text{ blanks}}\;
#   \sum_{i \text{ blank}} -\log p(x_0^i \mid \text{the others}). \tag{19.6}$$
#
# Read it as a game: uncover the sentence in a random order. With $h$ blanks left, each is the next one with probability
# $1/h$, and costs $-\log p$ of its letter. By the chain rule an *exact* denoiser pays $-\log p(x_0)$ in the end, in
# every order. **So for it the bound is no bound, but the likelihood itself.** Four computations of one number: for each
# sentence from the list, by (19.6), set by set, and by (19.4), with $T$ steps; then, for one sentence, by (19.5), with
# 4,000 draws.

# %%
# Eq. (19.4) to (19.6)
exact, p = -language.log_prob(sixteen), language.log_prob(sixteen).exp()
by_sets = text.exact_bound(language.predict, sixteen, language.mask)
torch.testing.assert_close(by_sets, exact)


def steps_of(T: int) -> list[float]:
    """alpha at T + 1 even times, rising."""
    return [i / T for i in range(T + 1)]


by_steps = {
    T: text.exact_bound(language.predict, sixteen, language.mask, steps_of(T))
    for T in (1, 2, 4, 16, 256)
}
above = {T: (p * (bound - exact)).sum().item() for T, bound in by_steps.items()}
for T, nats in above.items():
    print(f"{T:3} steps: {nats:.4f} nats above the likelihood, a sentence on average")
assert above[1] > above[4] > above[256] > 0
assert above[256] < 0.02 * above[1]

# %% [markdown]
# And by chance, with two schedules, for the sentence that is spoken most often. The mean of many draws must be the same
# number, up to what chance allows:

# %%
# Eq. (19.5)
one = sixteen[often.argmax()][None].repeat(4000, 1)
t = (torch.arange(4000) + 0.5).double() / 4000
schedules = {
    "alpha = 1 - t": lambda t: 1 - t,
    "alpha = cos²": lambda t: torch.cos(torch.pi / 2 * t) ** 2,
}
truth = exact[often.argmax()].item()
for name, alpha in schedules.items():
    how = (language.predict, one, alpha, t, language.mask, lesson.generator)
    draws = text.at_a_time(*how)
    error = draws.std().item() / 4000**0.5
    varies(f"{name:13}: {draws.mean():.3f} ± {error:.3f}, exactly {truth:.3f}")
    assert abs(draws.mean() - truth) < 6 * error
counted = text.by_counts(language.predict, one, language.mask, lesson.generator)
error = counted.std().item() / 4000**0.5
varies(f"by counts    : {counted.mean():.3f} ± {error:.3f}")
assert abs(counted.mean() - truth) < 6 * error

# %% [markdown]
# *The list, the sets, many steps and chance say the same. Few steps cost more: why?*
#
# ## 3 · Back again
#
# A sampler starts from blanks only, or from a text with blanks in it, and goes back by (19.3), with drawn letters in the
# place of the true ones.
#
# ### Exercise 3 · One step back
# *10 minutes · medium · Eq. (19.3).* A letter for each place is drawn already. Put it in where it is time; touch nothing
# that is known.


# %% tags=["exercise"] exercise="19.unmask" points=1
# Exercise 19.unmask
def unmask(
    x_t: Tensor, drawn: Tensor, u: Tensor, alpha_t: float, alpha_s: float, mask: int
) -> Tensor:
    """x_s. x_t, drawn: (b, n) whole numbers; u: (b, n), even in [0, 1): a blank is
    revealed where u is below the chance of (19.3)."""
    ### BEGIN SOLUTION
    chance = (alpha_s - alpha_t) / (1 - alpha_t)
    return torch.where((x_t == mask) & (u < chance), drawn, x_t)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# Two things must hold: it is a blank, `x_t == mask`, and `u` is below the chance. `&` is "and" for tensors.
# </details>

# %% tags=["check"]
check("19.unmask", unmask)

# %% [markdown]
# Now the smallest language in which something can go wrong: *ab* and *ba*, each spoken half of the time. The exact denoiser
# of two blanks says "half *a*, half *b*" for both places, and it is right. If both are revealed *in one step*, each is drawn
# by itself, and half of the time the same letter comes twice: *aa* or *bb*, which nobody says. With $T$ even steps each
# letter has a step of its own luck, and both meet in one with probability $1/T$:
#
# $$\text{share of wrong sentences} = \tfrac12 \cdot \tfrac1T. \tag{19.7}$$
#
# No training mends that: nothing in it was learned. A step draws from the product of the letters' laws, and the truth is no
# product. In nats, it is what (19.4) costs above the likelihood: $\log 2$ whenever both meet, so here $\tfrac1T \log 2$.

# %%
# Eq. (19.7)
two = text.Language(torch.tensor([[0, 1], [1, 0]]), 2)
blanks = torch.full((2000, 2), two.mask)
wrong_share = {}
for T in (1, 2, 4, 8, 16):
    law = text.law_of(two, steps_of(T))  # of every x_0, step by step, without chance
    spoken = two.log_prob(two.states).exp() > 0
    exactly = 1 - law[spoken].sum().item()
    assert abs(exactly - 1 / (2 * T)) < 1e-12
    drawn = text.sample_ancestral(
        two.predict, blanks, two.mask, T, generator=lesson.generator
    )
    wrong_share[T] = (drawn[:, 0] == drawn[:, 1]).double().mean().item()
    varies(f"{T:2} steps: {exactly:.4f} wrong; of 2,000 drawn {wrong_share[T]:.4f}")

# %% [markdown]
# *To halve the error takes twice as many steps.* The cure is not finer time, but the chain rule: **one letter at a
# time, in any order that is settled before the letter is drawn, is right**, and then $n$ letters need $n$ calls, as many as a
# model that writes from left to right.
#
# ## 4 · Sums
#
# A language whose sentences can be checked: the 10,000 sums of two numbers below a hundred. Its exact denoiser can
# still list them all. The network `sums`, a small transformer that looks at all nine places at once, learned from 8,000
# of them; the other 2,000 it never saw.

# %%
network = load_network("sums")
everything = text.Language(text.all_sums(), len(text.DIGITS))
_, unseen = text.shuffled_sums()
blank = text.blanked(unseen[:6], torch.Generator().manual_seed(3))
filled = text.sample_chosen(network, blank, network.mask, 9, generator=lesson.generator)
for before, after in zip(
    text.DIGITS.decode(blank), text.DIGITS.decode(filled), strict=True
):
    varies(f"{before}   {after}")
right = text.fill_blanks(network, unseen[:500], generator=lesson.generator).double()
varies(f"filled to a true sum: {in_words(right, '.1%')} of 500 that it never saw")
assert right.mean() > 0.7

# %% [markdown]
# *Any blanks can be filled*: the result, as in school, but a summand as well, or both when only the result is there. A model
# that writes from left to right could not look ahead at the result. Where several letters are right,
# another may come each time.
#
# Now from blanks only, with ever fewer steps: by even steps in time as in (19.3), and by the surest letter first, where
# `predict` is most certain before anything is drawn.

# %%
every = torch.full((150, 9), network.mask)
true_share = {}
for who, predict in (("exact", everything.predict), ("network", network)):
    for steps in (1, 2, 3, 5, 9):
        how = (predict, every, network.mask, steps)
        in_time = text.sample_ancestral(*how, generator=lesson.generator)
        surest = text.sample_chosen(*how, by="sure", generator=lesson.generator)
        for order, x in (("even in time", in_time), ("surest first", surest)):
            true_share[who, order, steps] = text.are_true(x).double().mean().item()
assert true_share["exact", "surest first", 9] == 1
assert true_share["exact", "even in time", 3] < 0.7
assert true_share["exact", "surest first", 1] < 0.1

# %% tags=["figure", "fold"]
# @title True sums by the number of steps
figure, axis = plt.subplots(figsize=(6.4, 3.2))
for order, colour in (("even in time", ORANGE), ("surest first", BLUE)):
    for who, line in (("exact", "o-"), ("network", "s:")):
        steps = [n for w, o, n in true_share if (w, o) == (who, order)]
        values = [true_share[who, order, n] for n in steps]
        axis.plot(steps, values, line, color=colour, label=f"{order}, {who}", ms=4)
axis.set(xlabel="steps", ylabel="share of true sums, of 150", ylim=(-0.03, 1.03))
axis.legend(loc="upper left")
show(
    figure,
    "The share of true sums against the number of steps, one to nine. With one step "
    "hardly any is true. Even in time, network and exact denoiser rise side by side, "
    "to about two thirds. The surest letter first, both stay near none up to three "
    "steps; then the network is ahead, and in nine the exact denoiser makes all true.",
)

# %% [markdown]
# *In few steps the exact denoiser does about as badly as the network, or worse: the steps are to blame.* Look at three: the surest
# letters are "+" and "=", of which everybody is sure. They come first, and the digits, which hang on each other, fall together
# into the last steps. Surest first in nine steps, one letter each, the exact denoiser is always right; what
# the network lacks there is its own error. Even in time, nine steps still reveal several letters at once, now and then.


# %% tags=["widget", "fold"]
# @title Sums, step by step
def sums_drawn(steps: int, order: str) -> plt.Figure:
    """Five sums from blanks by the network; each row one step more."""
    generator, rows = torch.Generator().manual_seed(5), []
    x_T = torch.full((5, 9), network.mask)
    how = {"generator": generator, "callback": lambda x: rows.append(x.clone())}
    if order == "even in time":
        text.sample_ancestral(network, x_T, network.mask, steps, **how)
    else:
        text.sample_chosen(network, x_T, network.mask, steps, by="sure", **how)
    figure, axis = plt.subplots(figsize=(8.6, 0.25 * steps + 0.6))
    true = text.are_true(rows[-1])
    for i, x in enumerate(rows):
        for j, shown in enumerate(text.DIGITS.decode(x)):
            last = i == len(rows) - 1
            colour = BLACK if not last else BLUE if true[j] else ORANGE
            axis.text(j, -i, shown, family="monospace", color=colour, ha="center")
        axis.text(-0.75, -i, f"{i + 1}", ha="right")
    axis.set(xlim=(-0.8, 4.6), ylim=(-len(rows) + 0.3, 0.8))
    axis.set_axis_off()
    return figure


explore(
    sums_drawn,
    alt="Five sums, a row for each step; in the last row true ones are blue, others "
    "orange.",
    steps=slider("steps", 1, 12, 9),
    order=choice("", ["surest first", "even in time"]),
)

# %% tags=["figure", "fold"]
# @title Five sums in nine steps, and in three
show(
    sums_drawn(9, "surest first"),
    "Five sums in nine steps: first plus and equals signs stand in all of them, then "
    "digits come one at a time; in the last row true sums are blue, others orange.",
)
show(
    sums_drawn(3, "surest first"),
    "The same in three steps: most digits come at once in the last steps, and most "
    "sums are false, shown in orange.",
)

# %% [markdown]
# ## 5 · A poem
#
# And a language nobody can list: *Paradise Lost* by John Milton (1674), twelve books in blank verse, folded to 36
# characters. `text-masked` learned books I to X by (19.6). Its autoregressive twin `text-twin` has as many weights and saw as many
# characters, but each place looks at those before it only, and it learned what comes next. On rows of 128 characters from
# books XI and XII, in bits a character: for the twin $-\log_2 p$ itself, for ours the bound.

# %%
masked, twin = load_network("text-masked"), load_network("text-twin")
size = {
    name: sum(p.numel() for p in net.parameters())
    for name, net in (("masked", masked), ("twin", twin))
}
assert size["masked"] == size["twin"]
rows = held_out_rows(128, 96)
per_bit = 128 * math.log(2)
with torch.no_grad():
    draws = [
        text.by_counts(masked, rows, masked.mask, lesson.generator) for _ in range(4)
    ]
    bound = torch.stack(draws).mean(0) / per_bit
    left_to_right = -text.sequence_log_prob(twin(rows), rows).sum(1) / per_bit
varies(f"masked diffusion: at most {in_words(bound, '.2f')} bits a character")
varies(f"its twin         : {in_words(left_to_right, '.2f')}, {len(rows)} rows")
assert left_to_right.mean() < bound.mean() < math.log2(36)

# %% [markdown]
# *The twin is ahead, as in the published tables:* on text8, with networks two hundred times as large, 1.23 bits against at most
# 1.37 to 1.45. Here, after minutes of training, by much more. The twin learns one order of uncovering, ours all of them; and
# each of its 128 letters is asked for in every row, of ours only the blanks, half of them on average. (And ours is a
# bound: the mean over all orders of what each one costs.) What ours can do instead: fill in anywhere.

# %% tags=["figure", "fold"]
# @title A line of verse, uncovered
known = letters.encode("of man's first disobedience, and the fruit\n" + "_" * 42 + "\n")
known = torch.cat([known, letters.encode("brought death into the world, and all our")])
x_T, seen = known[None], []
text.sample_chosen(
    masked,
    x_T,
    masked.mask,
    42,
    by="random",
    generator=torch.Generator().manual_seed(2),
    callback=lambda x: seen.append(letters.decode(x)[0][43:85].replace("\n", "/")),
)
figure, axis = plt.subplots(figsize=(5.2, 2.3))
for i, done in enumerate((0, 8, 16, 24, 32, 41)):
    axis.text(0, -i, seen[done], family="monospace", fontsize=10)
    axis.text(-0.02, -i, f"{done + 1}", ha="right")
axis.set(xlim=(-0.12, 1), ylim=(-5.5, 0.8), title="letters uncovered")
axis.set_axis_off()
show(
    figure,
    "A line between two of Milton's is uncovered letter by letter, in random order: "
    "first single letters, then pieces of words, in the end a line that looks like "
    "English from afar.",
)

# %% [markdown]
# ## 6 · Notes
#
# A sound is a row of numbers, and Gaussian noise on it is what everybody calls noise. Here all of the course fits as it is. We
# only choose what to show the network. A note of 0.24 s at 4,000 samples a second is short; yet where its waves stand at the
# start, their *phase*, is of no concern to the ear, and a network would have to get it right in every sample. So we cut the
# note into overlapping windows and take each one's Fourier transform:
#
# $$X = \operatorname{STFT}(\text{wave}), \qquad M = |X|, \qquad
#   \text{the picture} = \frac{\log(M + 0.1) - \text{mean}}{\text{standard deviation}}. \tag{19.8}$$
#
# A picture of frequencies over time. The phases are dropped, and must be found again: some wave whose transform has these
# magnitudes. Griffin and Lim (1984) go back and forth. A wave's transform has the wrong magnitudes: put in the right ones,
# and keep the phases. Such numbers are no wave's transform: take the nearest wave.
#
# $$X \leftarrow M\,\frac{X}{|X|}, \qquad \text{wave} \leftarrow \operatorname{ISTFT}(X), \qquad
#   X \leftarrow \operatorname{STFT}(\text{wave}). \tag{19.9}$$
#
# ### Exercise 4 · Keep the phase
# *10 minutes · medium · Eq. (19.9), first part.* $X$ comes as its real and its imaginary part, never both 0.


# %% tags=["exercise"] exercise="19.keep_phase" points=1
# Exercise 19.keep_phase
def keep_phase(real: Tensor, imag: Tensor, magnitude: Tensor) -> Tensor:
    """M X / |X|, (…, 2): its real part, then its imaginary one. All inputs: (…)."""
    ### BEGIN SOLUTION
    scale = magnitude / (real**2 + imag**2).sqrt()
    return torch.stack([scale * real, scale * imag], -1)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# $|X|$ is the root of the sum of both squares. One factor scales both parts; `torch.stack([…, …], -1)` puts them side by side.
# </details>

# %% tags=["check"]
check("19.keep_phase", keep_phase)

# %% [markdown]
# **The way there and back first, with real notes.** What it loses, no network can win back. `sound.notes` makes notes of 16
# pitches, semitone by semitone from 440 Hz up, each with an instrument and a touch of its own. Their pitch is measured
# by one estimator, stated here: where the spectrum of the whole note has its highest peak. How far off is it? The ear hears
# ratios, so in *cents*, hundredths of a semitone, of which an octave has 1,200:
#
# $$\text{cents} = 1200\,\log_2\frac{f}{f_\text{wanted}}. \tag{19.10}$$
#
# ### Exercise 5 · In tune?
# *5 minutes · easy · Eq. (19.10).* A note that is too high is off by a positive number.


# %% tags=["exercise"] exercise="19.cents" points=1
# Exercise 19.cents
def cents_off(frequency: Tensor, wanted: Tensor) -> Tensor:
    """In cents. frequency, wanted: (b,), in Hz."""
    ### BEGIN SOLUTION
    return 1200 * torch.log2(frequency / wanted)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.log2`. Twice the frequency is 1,200 cents, the same frequency 0.
# </details>

# %% tags=["check"]
check("19.cents", cents_off)


# %%
# Eq. (19.9) and (19.10)
def off(wave: Tensor, pitch: Tensor) -> Tensor:
    """Cents from the pitch that was asked for."""
    return sound.cents(sound.pitch_of(wave), sound.frequency_of(pitch)).abs()


pitch = torch.arange(16).repeat(3)
real_notes = sound.notes(pitch, lesson.generator)
linear = sound.magnitudes(real_notes)
varies(f"real notes: at most {off(real_notes, pitch).max():.1f} cents off")
apart = {}
for rounds in (0, 10, 60):
    back = sound.griffin_lim(linear, rounds, generator=lesson.generator)
    difference = (sound.magnitudes(back) - linear).norm() / linear.norm()
    apart[rounds] = difference.item()
    varies(
        f"{rounds:2} rounds: magnitudes {apart[rounds]:.1%} off, pitch at most "
        f"{off(back, pitch).max():.0f} cents"
    )
assert apart[60] < apart[10] < apart[0]
assert (off(back, pitch) < 50).all()

# %% [markdown]
# *The way there and back keeps the pitch.* A quarter tone is 50 cents; what is further off was asked for and not
# played.
#
# Now the network: `notes` is lesson 06's network of attention over patches, trained by lesson 07's loop on lesson 02's
# linear schedule, with a pitch where digits had a class. Drawn by lesson 11's sampler, ten steps; beside it the same
# asked for no pitch at all.


# %%
def fast(network: torch.nn.Module) -> object:
    """The network as a denoiser, in the precision that this machine is fast in."""

    def denoise(x_t: Tensor, t: float | Tensor, **cond: Tensor) -> Tensor:
        with torch.autocast(
            lesson.device.type, lesson.dtype, enabled=lesson.dtype != torch.float32
        ):
            return network(x_t, t, **cond)

    return denoise


player = load_denoiser("notes", lesson.device)
schedule, playing = player.schedule, fast(player)
grid = samplers.uniform_grid(schedule, 10)


def played(denoise: object, label: Tensor | None, n: int = 48) -> Tensor:
    """Pictures of notes, from random noise."""
    x_T = torch.randn(n, 1, 128, 16, generator=lesson.generator).to(lesson.device)
    cond = {} if label is None else {"label": label.to(lesson.device)}
    return samplers.sample_dpmpp_2m(denoise, x_T, schedule, grid, **cond).cpu()


def heard(picture: Tensor) -> Tensor:
    """Waves of pictures."""
    magnitude = sound.from_picture(picture.float())
    return sound.griffin_lim(magnitude, generator=lesson.generator)


pictures = {
    "no pitch": played(playing, None),
    "asked": played(playing, pitch),
    "w = 2": played(guidance.classifier_free(playing, 2.0), pitch),
}
waves = {name: heard(x) for name, x in pictures.items()}
in_tune = {name: off(wave, pitch) < 50 for name, wave in waves.items()}
for name, right in in_tune.items():
    varies(f"{name:8}: {right.sum()} of 48 notes within a quarter tone")
assert in_tune["asked"].sum() > 3 * in_tune["no pitch"].sum()

# %% tags=["figure", "fold"]
# @title Notes as pictures, and their pitches
figure, axes = plt.subplots(2, 4, figsize=(8.2, 3.8), width_ratios=[1, 1, 1, 3])
for row, (name, x) in enumerate(
    (("real", sound.to_picture(linear)), ("drawn", pictures["asked"]))
):
    for column, which in enumerate((0, 7, 15)):
        axis = axes[row, column]
        axis.imshow(x[which, 0].flip(0), aspect="auto", extent=(0, 0.24, 0, 2000))
        axis.grid(False)
        axis.set(xticks=[], yticks=[0, 1000, 2000] if column == 0 else [])
        if row == 0:
            axis.set_title(f"{sound.frequency_of(torch.tensor([which])).item():.0f} Hz")
    axes[row, 0].set_ylabel(f"{name}\nHz")
for axis in axes[:, 3]:
    axis.remove()
axis = figure.add_subplot(1, 3, 3)
axis.plot([430, 1080], [430, 1080], color=SKY, lw=1)
for name, colour, mark in (("no pitch", ORANGE, "x"), ("asked", BLUE, "o")):
    axis.plot(
        sound.frequency_of(pitch),
        sound.pitch_of(waves[name]),
        mark,
        color=colour,
        ms=4,
        label=name,
    )
axis.set(xlabel="Hz asked for", ylabel="Hz measured", ylim=(380, 1650))
axis.legend(loc="upper left", ncols=2)
show(
    figure,
    "Left: three real and three drawn notes as pictures of frequency over time, bright "
    "lines at the partials, fading to the right. Right: the pitch measured against the "
    "pitch asked for; nearly all notes with a pitch asked for lie on the diagonal, "
    "those without one anywhere.",
)

# %% [markdown]
# *Listen.* First sixteen real notes from the lowest to the highest, then sixteen that the network drew, asked for the same:

# %% tags=["varies", "fold"]
# @title Two players: real notes, drawn notes
for wave in (real_notes[:16], waves["w = 2"][:16]):
    display(Audio(wave.flatten().clamp(-1, 1).numpy(), rate=sound.RATE))

# %% [markdown]
# ## 7 · Films
#
# A film is a picture with one dimension more, time, and Gaussian noise goes on it as on any other. What is new is what must
# hold between frames: it is the same digit all along, and it moves as things do. Ours have 8 frames of 16 × 16: a digit
# of MNIST at half size that moves evenly on a straight line.
#
# Attention over all places of all frames would see that. But with $n$ places and $f$ frames it compares $(nf)^2$ pairs. So
# space and time take turns: within each frame as in the U-Net, then at each place through all frames:
#
# $$\text{pairs: } (n f)^2 \quad\text{against}\quad f\,n^2 + n\,f^2. \tag{19.11}$$
#
# The second half needs no new layer, only the numbers in another order.
#
# ### Exercise 6 · Through time, place by place
# *10 minutes · medium.* Frames come one after another, clip by clip. Make a line of each place's frames, for attention
# over the last axis but one.


# %% tags=["exercise"] exercise="19.over_time" points=1
# Exercise 19.over_time
def over_time(h: Tensor, frames: int) -> Tensor:
    """(b · height · width, frames, c) from h, (b · frames, c, height, width)."""
    ### BEGIN SOLUTION
    lines = h.unflatten(0, (-1, frames)).permute(0, 3, 4, 1, 2)
    return lines.flatten(0, 2)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint</summary>
#
# First five axes, `h.unflatten(0, (-1, frames))`; then `permute` brings (b, height, width) to the front; then `flatten(0, 2)`.
# </details>

# %% tags=["check"]
check("19.over_time", over_time)

# %% [markdown]
# The network `film` (`denoisers.ClipDenoiser`) has four such pairs; within a frame they are
# convolutions, and one of them attends there too. One batch in five of its training were single frames, so
# it can also draw a frame alone. We draw forty films, guided with $w = 3$ as in lesson 15; forty times eight frames, each
# alone, guided as much towards the same digit; and make forty real ones.


# %%
director = load_denoiser("film", lesson.device)
filming = guidance.classifier_free(fast(director), 3.0)
digit = torch.arange(10).repeat(4)


def filmed(label: Tensor, frames: int = 8) -> Tensor:
    """Clips in [-1, 1], from random noise."""
    shape = (len(label), 1, frames, film.SIDE, film.SIDE)
    x_T = torch.randn(shape, generator=lesson.generator).to(lesson.device)
    cond = {"label": label.to(lesson.device)}
    x = samplers.sample_dpmpp_2m(filming, x_T, director.schedule, grid, **cond)
    return film.pixels(x.float().cpu())


images, labels = load_images("mnist", "test")
some = torch.cat([(labels == d).nonzero()[:4, 0] for d in range(10)]).view(10, 4)
alone = filmed(digit.repeat_interleave(8), frames=1)
clips = {
    "real": film.moving_digits(images[some.T.flatten()], lesson.generator),
    "drawn": filmed(digit),
    "frames alone": alone.view(40, 8, 1, 16, 16).transpose(1, 2),
}

# %% tags=["figure", "fold"]
# @title Three films each, as strips
strips = [x[[3, 5, 9], 0].flatten(0, 1)[:, None] for x in clips.values()]
labels_of_rows = [f"{name}, {d}" for name in clips for d in (3, 5, 9)]
show(
    image_grid(torch.cat(strips), columns=8, row_labels=labels_of_rows, size=0.55),
    "Nine strips of eight frames. Real films show one digit moving evenly; drawn ones "
    "one shape that does, not always a clear digit; of frames drawn alone each is in "
    "another hand and at another place.",
)

# %% [markdown]
# (The real 3 is one of MNIST's own, though it looks like an 8.) The ten digits of each kind, moving: real, drawn, and
# frames alone.

# %% tags=["varies", "fold"]
# @title Three rows of films
for name, x in clips.items():
    show_film(x[:10], f"Ten small films of the digits 0 to 9: {name}.")

# %% [markdown]
# Three figures tell a film from a heap of pictures. Class kept: the classifier of MNIST sees the digit asked for in all
# eight frames. Velocity kept: how far the frames' centres are from the even motion that fits them best, in pixels.
# Flicker: how much a frame differs from the next when both are centred, so that motion does not count.

# %%
classifier = load_classifier("mnist")


def all_right(x: Tensor) -> Tensor:
    """Whether each film shows its digit in every frame."""
    seen = look_at(classifier, film.as_digits(x))[1].view(len(x), -1)
    return (seen == digit[:, None]).all(1)


kept, motion, flicker = {}, {}, {}
for name, x in clips.items():
    kept[name] = all_right(x).sum().item()
    motion[name] = film.unsteadiness(x)
    flicker[name] = film.flicker(x).double()
    steady, still = in_words(motion[name], ".2f"), in_words(flicker[name], ".3f")
    varies(f"{name:12}: class kept in {kept[name]} of 40;")
    varies(f"{'':12}  {steady} pixels off even motion; flicker {still}")
assert motion["real"].mean() < motion["drawn"].mean() < motion["frames alone"].mean()
assert flicker["drawn"].mean() < flicker["frames alone"].mean()

# %% [markdown]
# *Attention over time makes one film of eight pictures: motion and flicker are far nearer to the real than to frames alone.* The
# class is the weak point of a network that was trained for minutes: not every film keeps it, and without guidance few do
# (11 of 100, measured once).
#
# **What comes next?** The first four frames of a real film are known, the others are not: a hole in a film, and lesson 15
# fills holes. No network is trained for it. Replacement alone left holes that did not fit their surroundings. The gradient
# through the denoiser, `inpainting.towards`, mended that, and Ho et al. (2022) took it for films.

# %%
start = clips["real"][:20]
known = film.standardised(start).to(lesson.device)
seen_frames = (torch.arange(8).view(8, 1, 1) < 4).to(lesson.device)
m = seen_frames.float()
slope = inpainting.towards(fast(director), lambda x: m * x, m * known, schedule)
pinned = inpainting.with_known(slope, known, seen_frames)
x_T = torch.randn(known.shape, generator=lesson.generator).to(lesson.device)
how = {"generator": lesson.generator, "label": digit[:20].to(lesson.device)}
ahead = samplers.sample_ddpm(pinned, x_T, schedule, grid, **how)
ahead = film.pixels(ahead.float().cpu())
torch.testing.assert_close(ahead[:, :, :4], start[:, :, :4], atol=1e-4, rtol=0)
place, truth_place = film.centres(ahead), film.centres(start)
for name, guess_of_it in (
    ("predicted", place[:, 4:]),
    ("left where it was", truth_place[:, 3:4]),
    ("anywhere", film.centres(clips["drawn"])[:20, 4:]),
):
    miss = (guess_of_it - truth_place[:, 4:]).square().sum(-1).mean().sqrt()
    varies(f"{name:18}: centres of the last four frames {miss:.2f} pixels off")

# %% tags=["figure", "fold"]
# @title Four known frames, four predicted ones
kind = torch.tensor([1, 3, 4, 7])
both = torch.stack([start[kind], ahead[kind]], 1)[:, :, 0].flatten(0, 2)[:, None]
names = [f"{word}, {digit[k]}" for k in kind for word in ("real", "predicted")]
show(
    image_grid(both, columns=8, row_labels=names, size=0.55),
    "Four pairs of strips. The first four frames are the same in both; in the last "
    "four the predicted digit goes on in much the same strokes, and its shape changes: "
    "a stroke may shrink or close, and one digit look like another.",
)

# %% [markdown]
# *The hand goes on; shape and motion do so only roughly.* The centres are about as far off as if the digit had stopped, and
# far nearer than those of other films. At a glance the strips look right, and only the measurement tells how much is
# missing: the gradient is an approximation (lesson 15), and the network is small.
#
# ## 8 · What usually goes wrong
#
# **(a) Known letters are lost.** In a step back every place has a drawn letter, and only blanks may take it. Whoever writes
# `x = drawn` asks the network to say again what it sees, which it was never trained to do: only blanks counted in its loss.
# How many of the letters of true sums that stood there would it change?

# %%
x_t = text.blanked(unseen[:500], lesson.generator)
with torch.no_grad():
    said = network(x_t).argmax(-1)
there = x_t != network.mask
changed = (said != x_t)[there].double().mean()
varies(f"{changed:.1%} of the letters that were known come out as others")

# %% [markdown]
# **(b) The surest letter, after drawing.** A popular sampler draws a letter for every blank first, and keeps those that
# turned out likely. That looks like "surest first", and is not: an unlikely letter, rightly drawn now and then, is
# thrown away and drawn again. Even with the exact denoiser and one letter at a time the law is another one. On our sixteen
# sentences, 4,000 draws each, the distance from the true law (half the sum of all differences):

# %%
far = {}
for by in ("random", "sure", "drawn"):
    start_at = torch.full((4000, 4), language.mask)
    how = (language.predict, start_at, language.mask, 4)
    x = text.sample_chosen(*how, by=by, generator=lesson.generator)
    counts = (x[:, None] == sixteen).all(-1).double().mean(0)
    far[by] = (counts - language.log_prob(sixteen).exp()).abs().sum().item() / 2
    varies(f"by {by:6}: {far[by]:.3f}")
assert far["drawn"] > 2 * far["sure"]

# %% [markdown]
# *The first two differ from the truth by chance alone; the third prefers letters that are likely by themselves.* Gumbel noise
# in float32, with which many codes draw their letters, does so in small: it cannot be large enough (Zheng et al.).
#
# **(c) Logarithms inverted as if linear.** The network draws $\log(M + 0.1)$; Griffin and Lim want $M$. Forget the exponential,
# and no error is raised. Mel scales and decibels, which squeeze frequencies and loudness, go wrong in the same way. How far are the
# magnitudes of the wave that comes out?

# %%
logs = (linear + sound.QUIET).log().clamp(min=0)
for name, given in (("linear", linear), ("their logs", logs)):
    wave = sound.griffin_lim(given, generator=lesson.generator)
    apart[name] = ((sound.magnitudes(wave) - linear).norm() / linear.norm()).item()
    in_cents = (off(wave, pitch) < 50).sum()
    varies(f"{name:10}: {apart[name]:.0%} off, {in_cents} of 48 notes in tune")
assert apart["their logs"] > 5 * apart["linear"]

# %% [markdown]
# *The pitch survives in nearly all of them; loudness and timbre do not. One figure that is right is no proof.*
#
# **(d) Every frame by itself.** Section 7 has measured it: however good the pictures, nothing holds them together, and the
# film flickers.

# %% [markdown]
# ## In your own words
#
# A colleague trains masked diffusion on addresses and reports: "With 4 steps in place of 64 a third of the postcodes no longer
# fit their towns. The network must be too small; I shall double it." Say what you would ask or measure first, why a
# larger network may not help, and what you would try instead.

# %% [markdown] tags=["manual"] question="19.own_words" points=2
# ### BEGIN SOLUTION
# In four steps many letters are drawn at once, each from its own law given what stood there before; town and postcode that are
# revealed in the same step do not know of each other. An exact denoiser would do the same, so a larger network may not help. I
# would measure the share that fits against the number of steps (and one letter at a time): if it is right there, the network is
# good and the steps are to blame. If it is wrong there too, the network is. Instead: more steps, fewer letters in a step, an
# order in which letters that hang on each other do not come together, or the town first and then the postcode given it.
# ### END SOLUTION

# %% [markdown] tags=["rubric"]
# **Rubric.** One point: letters of one step are drawn independently, so that few steps are wrong even with an exact denoiser. One point: a
# measurement that tells the two apart (the same network with one letter a step), or a cure that keeps dependent letters apart.

# %% [markdown]
# ## Summary
#
# * Noise is what takes things away in a way we can compute. For text it is blanks, (19.1); a denoiser of text needs no time, (19.2).
# * Its loss is a cross-entropy over blanks with the weight $-\alpha_t'/(1 - \alpha_t)$, (19.5): a bound on $-\log p$ that is the same
#   for every schedule, and for an exact denoiser no bound but the likelihood, (19.6).
# * **Several letters in one step are drawn as if they knew nothing of each other**, (19.7): wrong even with an exact denoiser.
#   One at a time is right, in any order that is settled before the letter is drawn.
# * Sound and film are Gaussian: the same schedules, samplers, training and guidance. What is new is how they are shown to a network,
#   (19.8) and (19.11), and how the result is measured: cents; class, velocity, flicker.
# * The way there and back comes first, with real data: what it loses, no network wins back.

# %%
progress("19")

# %% [markdown]
# ## References
#
# * Austin, Johnson, Ho, Tarlow, van den Berg: *Structured Denoising Diffusion Models in Discrete State-Spaces*, 2021. Masks as noise.
# * Sahoo et al.: *Simple and Effective Masked Diffusion Language Models*, 2024, Eq. 7 and 10; Shi et al.: *Simplified and Generalized
#   Masked Diffusion for Discrete Data*, 2024. Our (19.3) to (19.5); on text8 at most 1.40 and 1.37 bits a character.
# * Ou et al.: *Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data*, 2025. Our (19.2) and (19.6).
# * Zheng et al.: *Masked Diffusion Models are Secretly Time-Agnostic Masked Models and Exploit Inaccurate Categorical Sampling*, 2024.
#   Gumbel noise in float32.
# * Chang, Zhang, Jiang, Liu, Freeman: *MaskGIT*, 2022. The sampler of (b).
# * Griffin, Lim: *Signal Estimation from Modified Short-Time Fourier Transform*, 1984; Perraudin, Balazs, Søndergaard: *A Fast
#   Griffin–Lim Algorithm*, 2013. Our (19.9), with momentum.
# * Kong, Ping, Huang, Zhao, Catanzaro: *DiffWave*, 2021. Diffusion of the wave itself.
# * Ho, Salimans, Gritsenko, Chan, Norouzi, Fleet: *Video Diffusion Models*, 2022. Space and time in turns, and single frames in
#   training.
# * Milton: *Paradise Lost*, second edition, 1674.
#
# **This was the last lesson.** Lesson 00 has the map of where you have been.
