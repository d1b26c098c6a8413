"""Listen to the Teacher! The library under the notebooks."""

import os
from importlib import import_module

# TensorFlow tells at length which GPU it did not find; errors still come as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class Error(ValueError):
    """Something that lttlib refuses on purpose: bad input, or a call that makes no sense.

    Parameters
    ----------
    problem : str
        What is wrong.
    path : path-like, optional
        The file or folder that it is about.
    cure : str, optional
        What to do about it.

    Attributes
    ----------
    problem, path, cure
        As given. The message is "path: problem; cure".
    """

    def __init__(self, problem, path=None, cure=None):
        message = problem if path is None else f"{path}: {problem}"
        if cure is not None:
            message = f"{message}; {cure}"
        # Of names that are not UTF-8, the escapes: streams and files refuse anything else.
        super().__init__(message.encode("utf-8", "backslashreplace").decode())
        self.problem = problem
        self.path = path
        self.cure = cure


def ceil_div(dividend, divisor):
    """Quotient rounded up, for whole numbers, arrays and tensors of them."""
    return -(-dividend // divisor)


def import_lazily(package, modules):
    """`__getattr__` and `__dir__` of a package (PEP 562) that imports its names when asked for.

    A device shall not wait for what only training needs. `modules` has the names of each module,
    in one text.
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def get(name):
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return get, lambda: sorted(homes)
