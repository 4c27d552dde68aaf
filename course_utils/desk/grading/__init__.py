"""Grading a class: learners' code runs in a sandbox, the checks run outside it.

    intake    what was handed in -> answers: `files` finds notebooks, `learners` says whose they are,
              `notebook` reads one, of whose `cells` nothing is run here; `links` says what an answer uses of others
    sandbox   processes that can do no harm; `seccomp` is the filter, `worker` what runs in them, `wire` how one speaks
    grade     checks against the sandbox's functions -> a result for each submission; a class at a time
    report    grades.csv, feedback, Gradescope's results.json, nbgrader's gradebook
    release   the assignment that is handed out
    words     what people wrote, as it may be shown

Nothing that a lesson imports imports this.
"""
