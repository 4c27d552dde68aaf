"""Graded exercises: `check("01.q_step", q_step)` answers the learner in words.

One module a lesson (`lesson_01`, …) holds that lesson's checks; `engine` holds what they share. Nothing here executes a
notebook or knows a grader: a check takes a callable, which may as well be a proxy for a function in another process.
"""

from course_utils.exercises.engine import Verdict, check, course_map, load_lesson, progress

__all__ = ["Verdict", "check", "course_map", "load_lesson", "progress"]
