"""How lessons are made: one source, `notebooks/src/NN_slug.py`, becomes the learner's notebook and the solved one."""
