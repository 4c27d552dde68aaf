"""The floors of `course_utils`, read from the picture that its docstring draws."""

import re

import course_utils

Row = tuple[list[str], str]  # modules and packages, and what they know


def floors(picture: str = course_utils.__doc__ or "") -> dict[str, list[Row]]:
    """Floor -> its rows, from the top down: the desk first."""
    found: dict[str, list[Row]] = {}
    for floor, names, knows in re.findall(r"(?m)^  (\w*) +((?:[\w/]+ · )*[\w/]+) *(.*)$", picture):
        if floor:
            found[floor] = []
        found[list(found)[-1]].append((names.replace("/", "").split(" · "), knows))
    return found
