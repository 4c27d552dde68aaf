"""Graded exercises: `check("01.q_step", q_step)` answers the learner in words.

One module a lesson (`lesson_01`, …) holds that lesson's checks. What they share: `answer` runs a learner's function
(under the `conditions` of a fresh kernel) and tells what it did; `compare` draws inputs and sets an output beside what
is right; `slips` has the mistakes that many exercises share; `engine` has the register, the verdicts and the map, and
`record` remembers what was done. Nothing here executes a notebook or knows a grader: a check takes a callable, which
may as well be a proxy for a function in another process.
"""

from course_utils.exercises.engine import Verdict, check, course_map, load_lesson, progress

__all__ = ["Verdict", "check", "course_map", "load_lesson", "progress"]
