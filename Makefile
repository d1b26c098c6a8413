# Needs make and Python 3.11, 3.12 or 3.13; everything else goes into .venv.
PROFILE ?= quick
JOBS ?= 2
STAMP := .venv/installed
NOTEBOOKS := $(wildcard notebooks/[0-9][0-9]_*.ipynb)
# Notebooks 03 and 04 read nothing of one another, nor do 05 to 07, nor the solutions.
NBVAL = .venv/bin/python -m pytest --nbval-lax --nbval-current-env
TWO = -n 2 --dist loadfile
# Tried, not looked up: a pyenv shim is there for versions that are not, and Debian's python3 may lack venv.
CHECK := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c "$(CHECK)" >/dev/null 2>&1 && { echo $$p; break; }; done)
# Where there is no GPU, the TensorFlow that is smaller.
COURSE ?= $(shell [ "$$(uname -sm)" = "Linux x86_64" ] && ! command -v nvidia-smi >/dev/null && echo course-cpu || echo course)

.PHONY: help install run test lint lab pages bench bench-env results shipped clean
help:           ## list what make can do (the default)
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*##/\t/' | expand -t 12

install: .venv  ## make .venv, with all that the course and its tests need

run: .venv      ## run the course and write its report: make run PROFILE=digits (default: quick)
	.venv/bin/ltt run $(PROFILE) --jobs $(JOBS)

test: lint      ## lint, unit tests, the slow ones, then every notebook with its asserts, on data of its own
	.venv/bin/python -m pytest tests --ignore tests/test_course.py -m "not slow" -n auto --dist loadfile
	.venv/bin/python -m pytest tests --ignore tests/test_course.py -m slow $(TWO)
	@test -n "$(NOTEBOOKS)" || { echo "No notebooks to test." >&2; exit 1; }
	data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && export LTT_DATA="$$data" LTT_BATCH=1 \
		&& $(NBVAL) tests/test_course.py notebooks/0[0-2]_*.ipynb \
		&& $(NBVAL) $(TWO) notebooks/0[34]_*.ipynb \
		&& $(NBVAL) $(TWO) notebooks/0[5-7]_*.ipynb \
		&& $(NBVAL) notebooks/0[89]_*.ipynb $(wildcard notebooks/[1-9]*.ipynb) \
		&& $(NBVAL) $(TWO) notebooks/solutions

lint: .venv     ## ruff: rules and format, notebooks too
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

lab: .venv      ## open the notebooks in JupyterLab
	.venv/bin/jupyter lab notebooks

pages: .venv    ## write the course with the outputs of its last run as a static site, data/pages: make pages PROFILE=digits
	.venv/bin/ltt pages $(PROFILE)

bench: .venv    ## measure speed beside that of others: ratios, written to data/bench.json (make bench-env for all rows)
	.venv/bin/python tests/bench/bench.py

# kenlm needs a C++ compiler; without it a row is skipped.
bench-env:      ## make .venv-bench, with what `make bench` compares with: PyTorch, onnxruntime, pyctcdecode
	@$(or $(PYTHON),false) -c "$(CHECK)" || { echo "No Python 3.11, 3.12 or 3.13 with venv found" >&2; exit 1; }
	.venv-bench/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv-bench
	.venv-bench/bin/python -m pip install --quiet torch onnx onnxruntime pyctcdecode 'numpy<2'
	.venv-bench/bin/python -m pip install --quiet kenlm || echo "kenlm does not build here." >&2

results: .venv  ## write RESULTS.md and the tables of README from notebooks/measured.json
	.venv/bin/python -c "from lttlib.course.tables import write_results; write_results('.')"

# Beside the models of quick, a teacher narrower than theirs, so that both files together stay below 80 kB.
shipped: .venv  ## train the two small models of notebook 00, and write them to notebooks/shipped
	.venv/bin/ltt run quick --only 01 --only 02 --only 04 --only 05
	.venv/bin/ltt run quick --only 02 --reports narrow -p teacher narrow \
		-p "filters=[80, 80, 80, 80, 80, 80, 80, 80, 80, 96]"
	.venv/bin/python -c "from lttlib.course import experiments, profile_folder; \
		home = profile_folder('quick'); scored = experiments.splits(home / 'records', ['test']); \
		experiments.ship(home / 'models' / 'narrow', 'notebooks/shipped/teacher', scored); \
		experiments.ship(home / 'models' / 'student-quantized4', 'notebooks/shipped/student', scored)"

clean:          ## remove .venv and caches; data/ stays
	rm -rf .venv .venv-bench *.egg-info .pytest_cache .ruff_cache
	find lttlib tests notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

.PHONY: .venv
.venv: $(STAMP)

# Made again when pyproject.toml changes. An unfinished .venv (no pip) is begun anew. Byte-compiled whatever the shell says:
# without it TensorFlow takes 14 s to import instead of 5.
$(STAMP): pyproject.toml
	@$(or $(PYTHON),false) -c "$(CHECK)" || { echo "No Python 3.11, 3.12 or 3.13 with venv found" \
		"(Debian, Ubuntu: apt install python3 python3-venv). Elsewhere: make PYTHON=/path/to/python3" >&2; exit 1; }
	.venv/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m pip install --quiet --editable '.[$(COURSE),device,test]'
	touch $@
