# Everything that is set up stays in .venv; only the real job server and its tools come from the system's packages.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/installed
	$(BIN)/geartrain demo

test: .venv/installed-dev lint
	@sh tools/real-parts.sh
	$(BIN)/coverage erase
	COVERAGE_PROCESS_START=pyproject.toml $(BIN)/coverage run -m pytest -n 2
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --verifytypes geartrain --ignoreexternal

.venv/bin/pip:
	@sh tools/venv.sh $(PYTHON)

.venv/installed: .venv/bin/pip pyproject.toml
	$(BIN)/pip install --quiet -e '.[cli,speed]'
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --group dev
	touch $@

clean:
	rm -rf .venv build dist .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
