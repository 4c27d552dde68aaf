"""The support package of the course *Diffusion models from scratch*.

Small verified functions, in floors; each floor imports only from the ones below it:

    4 desk    cli, authoring             people's tasks: open the lab, build the notebooks
    3 show    plotting, widgets, exercises    figures, sliders, answers to the learner
    2 learn   data, runtime              files, devices
    0 maths   schedules, forward, parameterizations, variational, toy    tensors only
"""

__version__ = "0.1.0"
