"""The task that polishes jumps by a critic, and the recipe that names one."""

import dataclasses

import pytest
import safetensors.torch
import torch
from torch.nn.functional import softplus

from course_utils import pretrained, recipes, run_folder
from course_utils.adversarial import DigitCritic
from course_utils.data import load_images, normalize
from course_utils.recipes import make_model
from course_utils.runs import Training
from course_utils.tasks import DENOISERS, Jumping, Polishing


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


POLISH = dataclasses.replace(
    recipes.RECIPES["mnist-onestep"],
    paths={"of": "mnist-unet", "n": 6, "steps": 2, "guidance": 1.0, "seed": 0},
    network={"channels": 1, "widths": (8, 16), "blocks": 1, "num_classes": 10, "second_time": True},
    critic={"width": 4, "num_classes": 10},
    start=None,
    task={"kind": "polishing", "times": (1000, 500, 0), "alone": 1},
    parts={"generator": {}, "critic": {"lr": 1e-3}},
    frozen=None,
    steps=2,
    batch_size=4,
)


def test_behind_each_path_stands_a_real_image_of_its_class():
    rows, classes = recipes.load_data(POLISH)
    paths, same = recipes.load_data(dataclasses.replace(POLISH, critic=None))
    images, labels = load_images("mnist")
    assert torch.equal(rows[:, :-1], paths)
    assert torch.equal(classes, same)
    of_class = {one: normalize(images[labels == one]).half() for one in classes.unique().tolist()}
    for row, one in zip(rows[:, -1], classes.tolist(), strict=True):
        assert (of_class[one] == row).flatten(1).all(1).any()


def test_a_critic_joins_in_when_it_is_told_to_and_stays_at_home(tmp_path):
    run = run_folder.begin(POLISH, tmp_path / "run")
    before = {name: value.clone() for name, value in run.model.critic.state_dict().items()}
    first, second = run_folder.train_recipe(run, POLISH, recipes.load_data(POLISH), tmp_path / "run")
    assert (set(first.parts), set(second.parts)) == ({"generator"}, {"generator", "critic"})
    assert any(not torch.equal(value, before[name]) for name, value in run.model.critic.state_dict().items())
    path = pretrained.ship(run, POLISH, tmp_path)
    stored = safetensors.torch.load(path.read_bytes())
    averaged = run.averaged().generator.state_dict()
    assert stored.keys() == averaged.keys()
    assert all(torch.equal(value, averaged[name].half()) for name, value in stored.items())
    assert "polishing" in DENOISERS


def test_what_a_polished_step_minimises():
    """Both losses, written out: regression beside the game, and the penalties by whole Jacobians."""
    run = Training(make_model(POLISH), parts=POLISH.parts, precision=torch.float32)
    run.model.double()
    rows, classes = normal(3, 4, 1, 28, 28), torch.tensor([1, 2, 3])
    how = {"times": (1000, 500, 0), "whole": 1.0}
    found, t = Polishing(**how, weight=0.3, penalty=0.2)(run, rows, classes, torch.Generator().manual_seed(0))
    alone, _ = Jumping(**how)(run, rows[:, :-1], classes, torch.Generator().manual_seed(0))
    assert t.tolist() == [1000] * 3
    critic = run.model.critic
    with torch.no_grad():
        made, x = run.model(rows[:, 0], 1000, r=0, label=classes), rows[:, 3]
        gap = critic(made, classes) - critic(x, classes)
        torch.testing.assert_close(found["generator"], (alone + 0.3 * softplus(-gap)).float())
    slopes = []
    for image in (x, made):
        (slope,) = torch.autograd.functional.jacobian(lambda z: critic(z, classes).sum(), (image,))
        slopes.append(slope.square().flatten(1).sum(1))
    torch.testing.assert_close(found["critic"].float(), (softplus(gap) + 0.1 * sum(slopes)).float())


def test_a_critic_that_is_told_classes_tells_them_apart():
    torch.manual_seed(0)
    critic, x = DigitCritic(width=4, num_classes=10).double(), normal(2, 1, 28, 28)
    both = critic(x, torch.tensor([3, 3]))
    assert not torch.allclose(both, critic(x, torch.tensor([4, 3])))
    assert torch.allclose(both[1], critic(x, torch.tensor([4, 3]))[1])
    with torch.no_grad():
        critic.classes.weight.zero_()
    torch.testing.assert_close(critic(x, torch.tensor([3, 4])), critic(x))
    with pytest.raises(ValueError, match="pack: wanted 1 where the critic is told classes, got 2"):
        DigitCritic(pack=2, num_classes=10)
