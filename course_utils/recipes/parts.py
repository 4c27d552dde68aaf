"""What the names in a recipe stand for: its network, its schedule, its task, its data."""

import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from course_utils import schedules
from course_utils._contract import Whole, checked
from course_utils._validate import require_one_of, require_type
from course_utils.adversarial import DigitCritic, Rivals, digit_rivals
from course_utils.autoencoders import Autoencoder
from course_utils.cascades import downsample
from course_utils.classifier import Classifier, NoisyClassifier
from course_utils.data import CLASSES, load_images, normalize
from course_utils.data.texts import random_rows
from course_utils.denoisers import DAE, AttentionDenoiser, ClipDenoiser, Denoiser, DiT, PlainCNN, Swin, UNet
from course_utils.film import clips_of
from course_utils.paths import draw_paths
from course_utils.recipes.recipe import Recipe
from course_utils.runtime import pick_device, pick_precision
from course_utils.samplers import uniform_grid
from course_utils.schedules import Schedule
from course_utils.sound import random_notes
from course_utils.tasks import TASKS, Task
from course_utils.text import TokenTransformer, shuffled_sums

# What a recipe may name. A lesson that brings a network, a schedule or data of its own adds a line.
ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "cnn": PlainCNN,
    "dae": DAE,
    "attention": AttentionDenoiser,
    "unet": UNet,
    "dit": DiT,
    "swin": Swin,
    "autoencoder": Autoencoder,
    "classifier": Classifier,
    "noisy_classifier": NoisyClassifier,
    "digit_rivals": digit_rivals,
    "tokens": TokenTransformer,
    "clips": ClipDenoiser,
}
SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "linear": schedules.linear,
    "cosine": schedules.cosine,
    "sigmoid": schedules.sigmoid,
    "exponential": schedules.exponential,
    "vp_linear": schedules.VPLinear,
    "vp_cosine": schedules.VPCosine,
    "ve": schedules.VE,
    "flow": schedules.FlowMatching,
}
SMALL = {"mnist-7": ("mnist", 4), "mnist-14": ("mnist", 2), "cifar10-16": ("cifar10", 2)}
"""Images made small: those of a dataset, averaged over squares of so many pixels (lesson 16)."""


@functools.lru_cache(maxsize=2)
def small_images(name: str, full: bool = False) -> tuple[Tensor, Tensor]:
    """The training split of SMALL[name], floats in [-1, 1], and its labels; all official images if `full`."""
    dataset, k = SMALL[name]
    images, labels = load_images(dataset, full=full)
    return torch.cat([downsample(normalize(chunk), k) for chunk in images.split(5000)]), labels


def _small(recipe: Recipe) -> tuple[Tensor, Tensor | None]:
    images, labels = small_images(recipe.dataset, recipe.full)
    return images, labels if recipe.network.get("num_classes") else None


@torch.no_grad()
def _codes(recipe: Recipe) -> tuple[Tensor, Tensor]:
    """A standardised code, drawn once, of each training image."""
    from course_utils.pretrained import load_network  # which knows the recipes

    images, labels = load_images("mnist")
    coder, generator = load_network(recipe.task["autoencoder"]), torch.Generator().manual_seed(recipe.seed)
    return torch.cat([coder.encode(normalize(chunk), generator) for chunk in images.split(500)]), labels


STREAMS: dict[str, Callable[[Recipe], tuple[Any, Tensor | None]]] = {
    **dict.fromkeys(SMALL, _small),
    "mnist-codes": _codes,
    "sums": lambda recipe: (shuffled_sums()[0], None),
    "paradise_lost": lambda recipe: (random_rows(recipe.network["length"]), None),
    "notes": lambda recipe: (random_notes, None),
    "film": lambda recipe: (clips_of(*load_images("mnist")), None),
}
"""Data that are no images of `load_images`: a function of the recipe returns what `training.train` takes, rows or a
function that makes batches, and labels or None. For a denoiser they have mean 0 and variance 1, unless in SMALL."""


def _made(table: Mapping[str, Callable[..., Any]], part: Mapping[str, Any]) -> Any:
    """The thing that a part of a recipe names, made with its arguments."""
    settings = dict(part)
    kind = settings.pop("kind")
    require_one_of("kind", kind, table)
    return table[kind](**settings)


@functools.cache
def pixel_moments(dataset: str) -> tuple[float, float]:
    """Mean and standard deviation of a training set's pixels in [-1, 1], over images and positions.

    Of the embedded images, so that a network can be rebuilt without a download. Exact: counted, byte by byte. Of
    images made small, too: their mean is the same, their deviation smaller.
    """
    if dataset in SMALL:
        x = small_images(dataset, False)[0].double()
        return x.mean().item(), x.std(correction=0).item()
    images, _ = load_images(dataset)
    counts = sum(chunk.flatten().bincount(minlength=256) for chunk in images.split(1000)).double()
    share, value = counts / counts.sum(), torch.arange(256, dtype=torch.float64) / 127.5 - 1
    mean = (share * value).sum()
    return mean.item(), (share * (value - mean) ** 2).sum().sqrt().item()


def make_model(recipe: Recipe, moments: tuple[float, float] | None = None) -> Any:
    """The recipe's network, a `Denoiser` if it has a schedule, with the weights that training starts from, float32.

    With a critic, the two are `Rivals`. The same seed gives the same weights. `moments` are the `pixel_moments` of the
    dataset, where they are known already.
    Raises ValueError for a network or a schedule of a name that is not known.
    """
    require_type("recipe", recipe, Recipe, "a Recipe, such as RECIPES['mnist-unet']")
    require_one_of("architecture", recipe.architecture, ARCHITECTURES)
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(recipe.seed)
        network = ARCHITECTURES[recipe.architecture](**recipe.network)
        critic = None if recipe.critic is None else DigitCritic(**recipe.critic)
    if recipe.schedule is None:
        return network
    if moments is None:
        moments = pixel_moments(recipe.dataset) if recipe.dataset in {*CLASSES, *SMALL} else (0.0, 1.0)
    denoiser = Denoiser(network, _made(SCHEDULES, recipe.schedule), recipe.predict, *moments)
    return denoiser if critic is None else Rivals(denoiser, critic)


def make_task(recipe: Recipe) -> Task:
    """What the recipe's training minimises, and what measures its network (`tasks`)."""
    return _made(TASKS, recipe.task)


@checked
def one_of_each(
    labels: Int64[Tensor, "n"], classes: Int64[Tensor, "m"], seed: Annotated[int, Whole(0)] = 0
) -> Int64[Tensor, "m"]:
    """The index of an image of each class asked for, at random, from the labels of them all.

    Raises ValueError for a class that no image has.
    """
    generator, found = torch.Generator().manual_seed(seed), torch.empty_like(classes)
    for one in classes.unique().tolist():
        asked, there = (classes == one).nonzero()[:, 0], (labels == one).nonzero()[:, 0]
        if not len(there):
            raise ValueError(f"classes: wanted some of the labels, {labels.unique().tolist()}, got {one}")
        found[asked] = there[torch.randint(len(there), (len(asked),), generator=generator)]
    return found


def load_data(recipe: Recipe) -> tuple[Any, Tensor | None]:
    """Training images, uint8, and their labels, None if neither network nor task knows classes; or what a stream gives.

    For a recipe with `paths` these are drawn first, which takes minutes: `n` paths of the shipped network `of`, on a
    uniform grid of `steps`, by DPM-Solver++(2M), with `guidance`; and the classes that they were asked to be. For a
    critic, a training image of its class stands behind each path.

    Raises DataError if they cannot be had.
    """
    require_type("recipe", recipe, Recipe, "a Recipe, such as RECIPES['mnist-unet']")
    if recipe.dataset in STREAMS:
        return STREAMS[recipe.dataset](recipe)
    images, labels = load_images(recipe.dataset, full=recipe.full)
    if recipe.paths is not None:
        from course_utils.pretrained import load_denoiser  # which knows the recipes

        device, how = pick_device(), dict(recipe.paths)
        denoise = load_denoiser(how.pop("of"), device)
        grid = uniform_grid(denoise.schedule, how.pop("steps"))
        how |= {"labels": labels, "device": device, "precision": pick_precision(device)}
        paths, asked = draw_paths(denoise, denoise.schedule, how.pop("n"), tuple(images.shape[1:]), grid, **how)
        if recipe.critic is not None:
            beside = normalize(images[one_of_each(labels, asked, recipe.seed)]).to(paths.dtype)
            paths = torch.cat([paths, beside[:, None]], 1)
        return paths, asked
    return images, labels if recipe.schedule is None or recipe.network.get("num_classes") else None
