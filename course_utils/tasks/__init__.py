"""What a network is trained for: a file a task. Each says what a step minimises, and measures how well that went.

`training.train` is one for all. A recipe names a task by its name in TASKS, and gives the fields of its dataclass.
"""

from course_utils.tasks.adversarial import Adversarial
from course_utils.tasks.classification import Classification, NoisyClassification
from course_utils.tasks.clips import Film, Notes
from course_utils.tasks.coding import CodeDenoising, Reconstruction
from course_utils.tasks.denoising import Denoising, draw_t
from course_utils.tasks.distillation import Consistency, Jumping, MeanFlow, Reflow
from course_utils.tasks.polishing import Polishing
from course_utils.tasks.task import Losses, Measured, Task, known_classes
from course_utils.tasks.tokens import NextToken, Unmasking
from course_utils.tasks.upscaling import Upscaling

TASKS: dict[str, type] = {
    "denoising": Denoising,
    "classification": Classification,
    "noisy_classification": NoisyClassification,
    "consistency": Consistency,
    "mean_flow": MeanFlow,
    "reflow": Reflow,
    "jumping": Jumping,
    "polishing": Polishing,
    "adversarial": Adversarial,
    "notes": Notes,
    "film": Film,
    "unmasking": Unmasking,
    "next_token": NextToken,
    "upscaling": Upscaling,
    "reconstruction": Reconstruction,
    "code_denoising": CodeDenoising,
}
"""By the name that a recipe calls them."""
DENOISERS = (
    *("denoising", "consistency", "mean_flow", "reflow", "jumping", "polishing", "upscaling", "code_denoising"),
    *("notes", "film"),
)
"""Those that make a denoiser."""

__all__ = [
    "DENOISERS",
    "TASKS",
    "Adversarial",
    "Classification",
    "CodeDenoising",
    "Consistency",
    "Denoising",
    "Film",
    "Jumping",
    "Losses",
    "MeanFlow",
    "Measured",
    "NextToken",
    "NoisyClassification",
    "Notes",
    "Polishing",
    "Reconstruction",
    "Reflow",
    "Task",
    "Unmasking",
    "Upscaling",
    "draw_t",
    "known_classes",
]
