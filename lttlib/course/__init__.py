"""The notebooks: how they run, what they plot, what came out."""

from importlib import import_module

# Imported when first asked for: matplotlib, papermill and yaml take seconds.
_LAZY = {
    "DATA": "notebooks",
    "NOTEBOOKS": "notebooks",
    "figure_path": "notebooks",
    "parameters": "notebooks",
    "plan": "notebooks",
    "profile": "notebooks",
    "profile_folder": "notebooks",
    "reports_path": "notebooks",
    "require": "notebooks",
    "run": "notebooks",
}


def __getattr__(name):
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
