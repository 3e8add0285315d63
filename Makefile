# Dependencies are installed in .venv; only gearmand, its tools, libgearman, stunnel and strace are system packages.
# PYTHON=/path/to/python3.13 selects the interpreter; without it an existing .venv is kept, and a new one uses the
# first suitable interpreter.
PYTHON ?=
BIN := .venv/bin
# Hypothesis generates the same examples for the same commit, and others for the next one.
SEED ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo 0)
# Images of CI systems often set it. Each of the thousand processes of a run would then compile geartrain again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo check test test-all docs site-check examples package lint types bytecode simulate bench faults kills fuzz soak clean

demo:
	@sh tools/setup.sh run $(PYTHON)
	$(BIN)/geartrain demo

# The inner loop: format, lint, types and all unit tests, in under a minute.
check:
	@sh tools/setup.sh dev $(PYTHON)
	@sh tools/real-parts.sh
	@$(MAKE) --no-print-directory -j 2 -O lint types
	$(BIN)/pytest -q $(PYTEST_OPTIONS) -m "not slow"

# Four processes on two cores, because many tests only wait. Each gets tests that follow each other, so that the
# fixtures of most modules are set up once.
PYTEST_OPTIONS = -n 4 --dist worksteal --hypothesis-seed=$(SEED)

test:
	@sh tools/setup.sh dev $(PYTHON)
	@sh tools/real-parts.sh
	@$(MAKE) --no-print-directory -j 3 -O lint types bytecode
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_OPTIONS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

# Run the tests on each CPython >= 3.11 in PATH and in ~/.pyenv/versions, each in its own virtual environment.
# ARGUMENTS='tests/worker' selects tests.
test-all:
	@sh tools/real-parts.sh
	@sh tools/test-all.sh --hypothesis-seed=$(SEED) $(ARGUMENTS)

# Programs that take long to install or to start.
examples:
	@sh tools/setup.sh dev $(PYTHON)
	@sh tools/setup.sh examples $(PYTHON)
	@sh tools/real-parts.sh examples
	$(BIN)/pytest -q -n 2 tests/examples

# Build the site in build/site, offline.
docs:
	@sh tools/setup.sh dev $(PYTHON)
	@sh tools/setup.sh docs $(PYTHON)
	$(BIN)/sphinx-build -n -W --keep-going -E -q -b html docs build/site
	$(BIN)/pytest -q tests/docs_site

# Look at the site in a browser: on a desktop and a phone, light and dark, and for accessibility. Pictures are in build/site-check.
site-check: docs
	@sh tools/setup.sh site $(PYTHON)
	@sh tools/real-parts.sh browser
	$(BIN)/pytest -q tests/site_check

# Build what is published, twice, and install it. The files are in dist/.
package:
	@sh tools/setup.sh dev $(PYTHON)
	@sh tools/setup.sh package $(PYTHON)
	$(BIN)/pytest -q tests/package

SEEDS ?= 10000
simulate:
	@sh tools/setup.sh dev $(PYTHON)
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) $(if $(FIRST),--first $(FIRST))

# ONLY=w3 or ONLY=w3/1000 selects workloads, CLIENTS='ceiling,geartrain-*' selects clients, QUICK=1 runs a short version.
bench:
	@sh tools/setup.sh bench $(PYTHON)
	@sh tools/real-parts.sh
	$(BIN)/python -m benchmarks $(if $(ONLY),--only '$(ONLY)') $(if $(CLIENTS),--clients '$(CLIENTS)') \
		$(if $(REPETITIONS),--repetitions $(REPETITIONS)) $(if $(QUICK),--quick)

fuzz:
	@sh tools/setup.sh fuzz $(PYTHON)
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60)

# The plot is saved as build/soak.png.
soak:
	@sh tools/setup.sh bench $(PYTHON)
	@sh tools/real-parts.sh
	$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),600) --plot build/soak.png \
		$(if $(filter-out file,$(origin SEED)),--seed $(SEED))

# SEED=... repeats the faults and jobs of a seed, JOBS=... sets the number of jobs (default: 20,000 per minute).
faults:
	@sh tools/setup.sh dev $(PYTHON)
	@sh tools/real-parts.sh
	$(BIN)/python -m tests.faults --seconds $(or $(SECONDS),60) $(if $(JOBS),--jobs $(JOBS)) \
		$(if $(filter-out file,$(origin SEED)),--seed $(SEED))

# Kill the processes of a worker at each point of a job. SEED=... chooses the points.
kills:
	@sh tools/setup.sh dev $(PYTHON)
	@sh tools/real-parts.sh
	$(BIN)/python -m tests.kills.run --count $(or $(COUNT),1000) $(if $(filter-out file,$(origin SEED)),--seed $(SEED))

lint:
	@sh tools/setup.sh dev $(PYTHON)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell src docs/*.md docs/*/*.md tests benchmarks/*.py examples tools *.md
	$(BIN)/mypy

types:
	@sh tools/setup.sh dev $(PYTHON)
	@sh tools/types.sh

# pytest compiles each module of the tests once. Its four processes would do so at the same time, and thus four times.
bytecode:
	@sh tools/setup.sh dev $(PYTHON)
	@output=$$($(BIN)/pytest -q --collect-only 2>&1) || { echo "$$output"; exit 1; }

clean:
	rm -rf .venv .venv-* build dist .coverage .coverage.* .fuzz .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
