"""Grading a class: learners' code runs in a sandbox, the checks run outside it.

    intake    what was handed in: notebooks, folders, an LMS's zip -> answers
    sandbox   a process that can do no harm; `worker` is what runs in it, `wire` how one speaks with it
    grade     checks against the sandbox's functions -> a result for each submission; a class at a time
    report    grades.csv, feedback, Gradescope's results.json, nbgrader's gradebook
    release   the assignment that is handed out

Nothing that a lesson imports imports this.
"""
