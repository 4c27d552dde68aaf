"""What the parts of the course are to each other: whatever has these methods will do, a learner's own included."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

from course_utils._validate import require_same

Time = int | float | Tensor
"""A time for the whole batch (a number or a 0-d tensor), or one per image (shape (b,))."""


@runtime_checkable
class Schedule(Protocol):
    """How much of the image and how much noise is in x_t: all that the course asks of a noise schedule.

    A schedule may also have `T`, its number of steps, if its times are whole numbers 0 … T; without it they are floats
    in [0, 1]. And it may say better than `schedules` does by itself which times it has (`check_t`), and which of them
    belongs to a log-SNR (`t_at_log_snr`).
    """

    if TYPE_CHECKING:  # what may be missing: see `steps_of`, `schedules.check_time` and `schedules.t_at_log_snr`

        @property
        def T(self) -> int | None: ...
        def check_t(self, t: Time, name: str = "t") -> Tensor: ...
        def t_at_log_snr(self, log_snr: float | Tensor) -> Tensor: ...

    def coeffs(self, t: Time) -> tuple[Tensor, Tensor]:
        """(alpha_t, sigma_t), float64, each of the shape of t."""

    def log_snr(self, t: Time) -> Tensor:
        """log(alpha_t² / sigma_t²), float64, of the shape of t; +inf for clean data, -inf for pure noise."""


@runtime_checkable
class Counted(Schedule, Protocol):
    """A schedule that counts its steps, 1 … T, so that each time t has a step before it, t - 1."""

    T: int


@runtime_checkable
class Denoise(Protocol):
    """The best guess of the clean image: `denoise(x_t, t, **cond) -> x0_hat`, of the shape of x_t."""

    def __call__(self, x_t: Tensor, t: Any, /, *args: Any, **cond: Any) -> Tensor: ...


@runtime_checkable
class Variance(Protocol):
    """The variance of the step from t to s, to be broadcast against x_t."""

    def __call__(self, x_t: Tensor, x0_hat: Tensor, t: Time, s: Time, schedule: Schedule, /) -> Tensor: ...


def steps_of(schedule: Schedule) -> int | None:
    """T, the number of steps of a schedule; None if its time is continuous."""
    return getattr(schedule, "T", None)


def answer(
    denoise: Denoise, x_t: Tensor, t: Time, cond: Mapping[str, Any], name: str = "x_t", role: str = "denoise"
) -> Tensor:
    """What a denoiser, the argument `role`, says to x_t, the argument `name`.

    Raises unless it has the shape, dtype and device of x_t.
    """
    x0_hat = denoise(x_t, t, **cond)
    require_same(role, x0_hat, name, x_t)
    return x0_hat
