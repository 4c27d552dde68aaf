"""What a network is trained for: a file a task. Each says what a step minimises; `training.train` is one for all."""

from course_utils.tasks.classification import Classification, NoisyClassification
from course_utils.tasks.denoising import Denoising, draw_t
from course_utils.tasks.task import Losses, Task

TASKS: dict[str, type] = {
    "denoising": Denoising,
    "classification": Classification,
    "noisy_classification": NoisyClassification,
}
"""By the name that a recipe calls them."""

__all__ = ["TASKS", "Classification", "Denoising", "Losses", "NoisyClassification", "Task", "draw_t"]
