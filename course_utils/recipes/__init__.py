"""Named trainings: a dataset, a network and every number that matters, so that `course train NAME` repeats them.

`Recipe` is plain data, `RECIPES` are the course's own, and `make_model`, `make_task` and `load_data` make of one what
`run_folder` trains.
"""

from course_utils.recipes.named import RECIPES
from course_utils.recipes.parts import (
    ARCHITECTURES,
    SCHEDULES,
    STREAMS,
    load_data,
    make_model,
    make_task,
    pixel_moments,
)
from course_utils.recipes.recipe import Recipe, recipe_from, settings_of

__all__ = [
    "ARCHITECTURES",
    "RECIPES",
    "SCHEDULES",
    "STREAMS",
    "Recipe",
    "load_data",
    "make_model",
    "make_task",
    "pixel_moments",
    "recipe_from",
    "settings_of",
]
