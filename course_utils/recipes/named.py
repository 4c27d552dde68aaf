"""The course's trainings by name: what `course train NAME` repeats. A new one is a `Recipe` more."""

from course_utils.recipes.recipe import Recipe

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "mnist-classifier",
            "mnist",
            architecture="classifier",
            network={"channels": 1, "widths": (32, 64, 64)},
            schedule=None,
            task={"kind": "classification", "shift": 2},
            steps=4000,
            lr=3e-3,
            weight_decay=0.05,
        ),
        Recipe(
            "cifar10-classifier",
            "cifar10",
            full=True,
            architecture="classifier",
            network={"channels": 3, "widths": (32, 64, 128, 192), "stem": 1},
            schedule=None,
            task={"kind": "classification", "shift": 4, "flip": True},
            steps=9_000,
            lr=3e-3,
            weight_decay=0.05,
        ),
        Recipe(
            "mnist-cnn",
            "mnist",
            architecture="cnn",
            network={"channels": 1, "width": 48, "depth": 8, "num_classes": 10},
            steps=2500,
        ),
        Recipe(
            "mnist-dae",
            "mnist",
            architecture="dae",
            network={"channels": 1, "size": 28, "bottleneck": 64, "num_classes": 10},
            steps=2500,
        ),
        Recipe(
            "mnist-attention",
            "mnist",
            architecture="attention",
            network={"channels": 1, "width": 96, "blocks": 4, "patch": 4, "num_classes": 10},
            steps=2500,
        ),
        Recipe(
            "mnist-unet",
            "mnist",
            network={"channels": 1, "widths": (64, 128), "blocks": 1, "num_classes": 10},
            task={"kind": "denoising", "times": "cosine"},
            steps=47_000,
            batch_size=64,
            lr=2e-3,
            warmup=500,
        ),
        Recipe(
            "mnist-smoke",
            "mnist",
            network={"channels": 1, "widths": (16, 32), "blocks": 1, "attention": (), "num_classes": 10},
            steps=100,
            batch_size=32,
            warmup=10,
            ema=0.9,
        ),
        Recipe(
            "cifar10-unet",
            "cifar10",
            full=True,
            network={"channels": 3, "widths": (96, 144, 144), "blocks": 1, "attention": (1, 2), "num_classes": 10},
            task={"kind": "denoising", "times": "cosine", "flip": True},
            steps=26_000,
            batch_size=64,
            lr=2e-3,
            warmup=500,
        ),
    )
}
