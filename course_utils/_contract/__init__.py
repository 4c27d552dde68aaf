"""The signature is the contract: `@checked` refuses, in words, what the annotations of a function exclude.

    @checked
    def sample_ddim(denoise: Denoise, x_T: Annotated[Images, FINITE], schedule: Schedule, timesteps: Grid, *,
                    eta: Annotated[float, In("[0, 1]")] = 0.0):

    sample_ddim(…, eta=1.5)      ValueError: eta: wanted a number in [0, 1], got 1.5

What can be said:

* `Float[Tensor, "b *shape"]`, `Int[…]`, `UInt8[…]` of jaxtyping (`shapes`): the kind of numbers, and the shape. A name
  stands for one size within a call, `*shape` for several, `#b` for that or 1, `{schedule.T}` for what an argument
  knows; what has the same `*shape` has the same dtype, and all of a call's tensors lie on one device (a number on the
  CPU meets any).
* Marks (`marks`): `Annotated[float, In("(0, 1]")]`, `Count`, `Annotated[int, Whole(0)]`, `Sizes()`, `OneOf(NAMES)`,
  `FINITE`, `SOME`, …; and whatever has a method `check(name, value, call)`, which raises, or `read(name, value, call)`,
  which raises or returns what the function is to get instead.
* Times (`times`): which a schedule has, and a `Grid` of them that falls.
* A class, a protocol, a function, a generator. Anything else, times among it, is left to who looks them up.

The rules are made when the function is (`rules`); a call costs some microseconds. Code that `torch.compile` translates
is not checked. The sentences themselves, for what a signature cannot say too, are those of `course_utils._validate`.
"""

from course_utils._contract.marks import (
    ANYWHERE,
    DOUBLE,
    FINITE,
    NUMBER,
    OWN_SHAPE,
    SOME,
    AllIn,
    Call,
    Count,
    Divides,
    In,
    Is,
    OneOf,
    Sizes,
    Whole,
)
from course_utils._contract.rules import checked

__all__ = [
    "ANYWHERE",
    "DOUBLE",
    "FINITE",
    "NUMBER",
    "OWN_SHAPE",
    "SOME",
    "AllIn",
    "Call",
    "Count",
    "Divides",
    "In",
    "Is",
    "OneOf",
    "Sizes",
    "Whole",
    "checked",
]
