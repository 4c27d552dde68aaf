"""Check of lesson 00: the warm-up."""

import torch

from course_utils.exercises.answer import Answer
from course_utils.exercises.compare import Draw, expect
from course_utils.exercises.engine import exercise


@exercise("00.mix", "Mix a picture with noise")
def _(answer: Answer, draw: Draw) -> None:
    for shape in [(4, 1, 5, 5), (1, 3, 4, 6), (3, 2)]:
        for dtype in [torch.float32, torch.float64]:
            x, eps = draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
            # Two numbers on their own: not every schedule has alpha_t² + sigma_t² = 1.
            alpha, sigma = draw.number(0.3, 0.6), draw.number(0.75, 0.95)
            expect(
                answer(x, eps, alpha, sigma),
                alpha * x + sigma * eps,
                what="x_t",
                mistakes={
                    "that is a cross-fade: the noise's factor is sigma_t, and that is not 1 - alpha_t": alpha * x
                    + (1 - alpha) * eps,
                    "use the sigma_t that was handed over: not every schedule has alpha_t² + sigma_t² = 1": alpha * x
                    + (1 - alpha**2) ** 0.5 * eps,
                    "the two factors are swapped: alpha_t goes with the picture": sigma * x + alpha * eps,
                    "the picture keeps all of its size: it should shrink by alpha_t": x + sigma * eps,
                    "the noise comes in at full size: it should shrink by sigma_t": alpha * x + eps,
                    "both factors are missing: a sum of picture and noise is too large": x + eps,
                    "the noise is missing: eps was handed over to be used": alpha * x,
                    "noise is added, not taken away (harmless for one symmetric draw, but not the equation)": alpha * x
                    - sigma * eps,
                    "no root: alpha_t and sigma_t multiply as they are": alpha**0.5 * x + sigma**0.5 * eps,
                    "no square: alpha_t and sigma_t multiply as they are": alpha**2 * x + sigma**2 * eps,
                    "brackets: each has a factor of its own, the noise is not shrunk with the picture": alpha
                    * (x + sigma * eps),
                    "brackets: each has a factor of its own, the picture is not shrunk with the noise": sigma
                    * (alpha * x + eps),
                    "use the alpha_t that was handed over: it need not be 1 - sigma_t": (1 - sigma) * x + sigma * eps,
                    "use the alpha_t that was handed over: it need not be the root of 1 - sigma_t²": (1 - sigma**2)
                    ** 0.5
                    * x
                    + sigma * eps,
                    "no root: sigma_t multiplies as it is": alpha * x + sigma**0.5 * eps,
                    "a sum of the two, not their product": alpha * x * sigma * eps,
                    "the picture is missing: x_0 was handed over to be used": sigma * eps,
                    "eps is missing: sigma_t multiplies it": alpha * x + sigma,
                    "that is their mean: a sum, weighted with alpha_t and sigma_t": (alpha * x + sigma * eps) / 2,
                    "one picture's noise serves the whole batch: every picture needs its own": alpha * x
                    + sigma * eps[:1],
                },
            )
    x, eps = draw.normal(3, 2), draw.normal(3, 2)
    expect(answer(x, eps, 1.0, 0.0), x, what="x_t without noise, alpha_t = 1 and sigma_t = 0,")
    expect(answer(x, eps, 0.0, 1.0), eps, what="x_t without a picture, alpha_t = 0 and sigma_t = 1,")
