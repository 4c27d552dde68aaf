"""What a network is trained for: a file a task. Each says what a step minimises; `training.train` is one for all."""

from course_utils.tasks.classification import Classification
from course_utils.tasks.denoising import Denoising, draw_t
from course_utils.tasks.distillation import Consistency, Jumping, MeanFlow, Reflow
from course_utils.tasks.task import Losses, Task

TASKS: dict[str, type] = {
    "denoising": Denoising,
    "classification": Classification,
    "consistency": Consistency,
    "mean_flow": MeanFlow,
    "reflow": Reflow,
    "jumping": Jumping,
}
"""By the name that a recipe calls them."""
DENOISERS = ("denoising", "consistency", "mean_flow", "reflow", "jumping")
"""Those that make a denoiser."""

__all__ = [
    "DENOISERS",
    "TASKS",
    "Classification",
    "Consistency",
    "Denoising",
    "Jumping",
    "Losses",
    "MeanFlow",
    "Reflow",
    "Task",
    "draw_t",
]
