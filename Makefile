# Everything that is set up stays in .venv; only the real job server and its tools come from the system's packages.
# PYTHON=/path/to/python3.13 chooses the interpreter; without it .venv is kept as it is, or made with the first that fits.
PYTHON ?=
BIN := .venv/bin
# Hypothesis draws the same examples again for the same commit, and others for the next.
SEED ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo 0)

.PHONY: demo check test test-all lint types simulate bench faults fuzz soak clean

demo:
	@sh tools/setup.sh run $(PYTHON)
	$(BIN)/geartrain demo

# What to run between two edits: format, lint, types and the unit tests of all layers.
check:
	@sh tools/setup.sh dev $(PYTHON)
	@sh tools/real-parts.sh
	@$(MAKE) --no-print-directory lint types
	$(BIN)/pytest -q -n 4 -m "not slow" --hypothesis-seed=$(SEED)

# Four tests at a time on two cores: many of them only wait.
test:
	@sh tools/setup.sh dev $(PYTHON)
	@sh tools/real-parts.sh
	@$(MAKE) --no-print-directory lint types
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 4 --hypothesis-seed=$(SEED)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

# The tests on every CPython from 3.11 on in PATH and in ~/.pyenv/versions, each in a virtual environment of its own.
# ARGUMENTS='tests/worker' runs a part.
test-all:
	@sh tools/real-parts.sh
	@sh tools/test-all.sh --hypothesis-seed=$(SEED) $(ARGUMENTS)

SEEDS ?= 10000
simulate:
	@sh tools/setup.sh dev $(PYTHON)
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) $(if $(FIRST),--first $(FIRST))

# ONLY=w3 or ONLY=w3/1000 chooses workloads, CLIENTS='ceiling,geartrain-*' who is measured, QUICK=1 a short form.
bench:
	@sh tools/setup.sh bench $(PYTHON)
	@sh tools/real-parts.sh
	$(BIN)/python -m benchmarks $(if $(ONLY),--only '$(ONLY)') $(if $(CLIENTS),--clients '$(CLIENTS)') \
		$(if $(REPETITIONS),--repetitions $(REPETITIONS)) $(if $(QUICK),--quick)

fuzz:
	@sh tools/setup.sh fuzz $(PYTHON)
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60)

# The plot is drawn into build/soak.png.
soak:
	@sh tools/setup.sh bench $(PYTHON)
	@sh tools/real-parts.sh
	$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),600) --plot build/soak.png \
		$(if $(filter-out file,$(origin SEED)),--seed $(SEED))

# SEED=... has the faults and jobs of that seed again, JOBS=... more or fewer than 20,000 a minute.
faults:
	@sh tools/setup.sh dev $(PYTHON)
	@sh tools/real-parts.sh
	$(BIN)/python -m tests.faults --seconds $(or $(SECONDS),60) $(if $(JOBS),--jobs $(JOBS)) \
		$(if $(filter-out file,$(origin SEED)),--seed $(SEED))

lint:
	@sh tools/setup.sh dev $(PYTHON)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

types:
	@sh tools/setup.sh dev $(PYTHON)
	@sh tools/types.sh

clean:
	rm -rf .venv .venv-* build dist .coverage .coverage.* .fuzz .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
