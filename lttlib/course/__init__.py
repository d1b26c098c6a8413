"""The notebooks: how they run, what they plot, what came out."""

from lttlib import import_lazily

__getattr__, __dir__ = import_lazily(
    __name__,
    {
        "notebooks": "DATA NOTEBOOKS figure_path parameters plan profile profile_folder "
        "reports_path require run",
        "tables": "measured",
    },
)
