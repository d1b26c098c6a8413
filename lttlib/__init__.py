"""Listen to the Teacher! The library under the notebooks."""

import contextlib
import os
from importlib import import_module

# TensorFlow tells at length which GPU it did not find; errors still come as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Default config and cache folders of other libraries, by the environment variable that overrides
# each. That of numba is in the cache.
HOMES = {
    "IPYTHONDIR": "~/.ipython",
    "JUPYTER_CONFIG_DIR": "~/.jupyter",
    "JUPYTER_DATA_DIR": "~/.local/share/jupyter",
    "KERAS_HOME": "~/.keras",
    "MPLCONFIGDIR": "~/.config/matplotlib",
    "XDG_CACHE_HOME": "~/.cache",
}


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


def _leave_home():
    """Set each variable whose default folder cannot be written to one that is removed at exit."""
    paths = {name: os.path.expanduser(HOMES[name]) for name in HOMES.keys() - os.environ.keys()}
    names = [name for name, path in paths.items() if not _is_writable(path)]
    if os.path.expanduser("~") == "~":  # a user without any home
        names.append("HOME")
    if not names:
        return

    import atexit
    import shutil
    import tempfile

    with contextlib.suppress(OSError):  # no room anywhere: not every command needs it
        folder = tempfile.mkdtemp(prefix="ltt-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for name in names:
            os.environ[name] = os.path.join(folder, name)
            os.mkdir(os.environ[name])


def _is_writable(path):
    """Whether a folder can be written, or made where there is none yet."""
    while path and not os.path.exists(path):
        path = os.path.dirname(path)
    return os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK)


def ceil_div(dividend, divisor):
    """Quotient rounded up, for whole numbers, arrays and tensors of them."""
    return -(-dividend // divisor)


def import_lazily(package, modules):
    """`__getattr__` and `__dir__` of a package (PEP 562) that imports its names when asked for.

    So a device does not wait for what only training needs. `modules` maps each module to its names,
    separated by spaces.
    """
    module_of = {name: module for module, names in modules.items() for name in names.split()}

    def get(name):
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{module_of[name]}"), name)

    return get, lambda: sorted(module_of)


_leave_home()
