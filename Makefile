# Everything here needs make and one Python >= 3.11. `make help` lists the targets.

PYTHON ?= python3
DEMO_PATH ?=
CASE ?=

TOOLS := .tox/.tools
VENV := .venv

# Pythons that pyenv keeps, newest first, so that tox finds them; elsewhere this is empty and PATH alone counts.
PYENV_BINS := $(shell ls -d "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[1-9]*/bin 2>/dev/null | sort -rV | paste -sd: -)
TOX_PATH := $(if $(PYENV_BINS),$(PYENV_BINS):)$(PATH)
find-python = $(shell PATH="$(TOX_PATH)"; for v in $(1); do python$$v -c "" 2>/dev/null && echo python$$v && break; done)

# Python's version decides what `newest` and `oldest` mean; what is missing here is skipped, not fetched.
TOX = PATH="$(TOX_PATH)" UV_PYTHON_DOWNLOADS=never \
	NEWEST_PYTHON="$(or $(call find-python,3.13 3.12 3.11),py)" \
	OLDEST_PYTHON="$(or $(call find-python,3.11 3.12 3.13),py)" \
	$(TOOLS)/bin/tox

.DEFAULT_GOAL := help
.PHONY: help demo test exhaustive chaos matrix docs bench format clean python

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## one job per file, with progress and a checked manifest (DEMO_PATH=<folder or option>)
	$(VENV)/bin/celery-flows demo $(DEMO_PATH)

# Two side by side, as the suite waits for workers more than it computes; the third when one of them has ended.
test: $(TOOLS)/.installed ## all checks, and the test suite on the newest and the oldest releases
	@status=0; \
	$(TOX) run -m checks || status=1; \
	$(TOX) run-parallel --parallel 2 --parallel-no-spinner -e newest,oldest,proofs || status=1; \
	exit $$status

exhaustive: $(TOOLS)/.installed ## all schedules and long lives, where `make test` tries some (hours)
	$(TOX) run -e exhaustive

chaos: $(TOOLS)/.installed ## workers, databases and brokers struck at random (CHAOS_SECONDS=300 CHAOS_SEED=<a run's>)
	$(TOX) run -e chaos

matrix: $(TOOLS)/.installed ## the test suite on every Python, Celery and SQLAlchemy that is supported
	$(TOX) run -m matrix

docs: $(TOOLS)/.installed ## build the documentation into docs/_build/html
	$(TOX) run -e docs

bench: $(TOOLS)/.installed ## measure beside plain Celery: make bench CASE="fanout drain --n 20000"
	$(TOX) run -e bench -- $(or $(CASE),--help)

format: $(TOOLS)/.installed ## let ruff mend and format the code
	$(TOX) run -e format

clean: ## remove what the other targets made
	rm -rf $(VENV) .tox build dist docs/_build celery_flows.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
	|| { echo "celery-flows needs Python 3.11 or newer: make PYTHON=/path/to/python3 ..."; exit 1; }

$(TOOLS)/.installed: | python
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet tox tox-uv
	@touch $@

$(VENV)/.installed: pyproject.toml | python
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[cli]'
	@touch $@
