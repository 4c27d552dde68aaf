"""For `make plain`: every Python that finds this folder on PYTHONPATH, kernels too, has a processor without bfloat16.

The course asks `torch.cpu.get_capabilities`; that is replaced when somebody imports PyTorch, and not before, since many
processes here do without.
"""

import importlib.abc
import importlib.machinery
import sys


class Plainer(importlib.abc.MetaPathFinder):
    """Lets others find `torch.cpu`, and has it loaded without the capability."""

    def find_spec(self, name, path, target=None):
        if name != "torch.cpu":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            able = getattr(module, "get_capabilities", dict)
            module.get_capabilities = lambda: {what: has and "bf16" not in what for what, has in able().items()}

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Plainer())
