# Every target does its own set-up: on a machine with Python 3.11 and nothing else, `make demo` and `make test` just work.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WORKERS ?= auto
SEEDS ?= 20
FIRST ?= 1
RUN ?=
MINUTES ?= 1
SEED ?= 0
NODES ?= 3
DEMO_PATH ?= .

.PHONY: setup demo dev test lint sim sim-ci sim-fresh nemesis bench clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml clients/pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "make: Python 3.11 or later is needed; install it, or say: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e clients -e '.[dev]'
	touch $(INSTALLED)

# The main job: three nodes, four agents, real work; the leader and an agent are killed, one is paused for a minute, one
# drained, one replaced.
demo: setup
	$(BIN)/hive demo $(DEMO_PATH)

dev: setup
	$(BIN)/hive dev

test: setup
	$(BIN)/python -m pytest -n $(WORKERS)

lint: setup
	$(BIN)/ruff check
	$(BIN)/mypy

# The simulated cluster, with as many seeds as you have time for: make sim SEEDS=1000, from another one on: FIRST=5000
sim: setup
	$(BIN)/python -m tests.sim --seeds $(SEEDS) --first $(FIRST)

# What every change must pass, within three minutes on two cores: the fixed seeds, and 200 that nobody has run before
# (of today; RUN=name for others; it says how to repeat them). `make test` has the plots and the mutations.
sim-ci: setup sim-fresh
	$(BIN)/python -m pytest -n $(WORKERS) tests/sim/test_seeds.py tests/sim/test_reproduction.py

sim-fresh: setup
	$(BIN)/python -m tests.sim --seeds 200 --fresh $(RUN)

# Real nodes under faults, and a judgement of what clients were told: make nemesis MINUTES=10 SEED=7 NODES=5
nemesis: setup
	$(BIN)/python -m tests.nemesis --minutes $(MINUTES) --seed $(SEED) --nodes $(NODES) $(NETNS)

bench: setup
	$(BIN)/hive bench http

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info clients/*.egg-info
