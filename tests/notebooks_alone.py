"""Run notebooks in this process, without the kernel that each of them would have to start.

`python notebooks_alone.py STEPS` takes a JSON list of steps: a list of notebooks, and values of
parameters as the command takes them, of which each notebook gets those that it declares. The data
go to LTT_DATA. It stops at the first cell that fails.
"""

import json
import os
import sys

import matplotlib.pyplot as plt

from lttlib.course import notebooks


def run_cells(path, values):
    """Execute the cells of a notebook, and after that of its parameters these values."""
    namespace = {"__name__": "__main__"}
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            exec(compile(source, f"{path.stem}, cell {number}", "exec"), namespace)
        if "parameters" in cell["metadata"].get("tags", []):
            namespace |= values
    plt.close("all")


def main(steps):
    """Run the steps, each notebook in the folder that it stands in."""
    plt.switch_backend("agg")
    os.chdir(notebooks.NOTEBOOKS)
    for stems, values in steps:
        for stem in stems:
            declared = notebooks.parameters(notebooks.NOTEBOOKS / f"{stem}.ipynb")
            overrides = {name: value for name, value in values.items() if name in declared}
            ((path, converted),) = notebooks.plan("quick", [stem], None, overrides)
            run_cells(path, converted)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
