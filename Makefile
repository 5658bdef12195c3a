# make demo: toy clips -> shards -> a trained model -> metric tables, a report.   make test: format, lint, types, tests.
# Every target sets itself up in .venv; a second call is quick.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.installed

.PHONY: setup demo test bench format

setup: $(SETUP)

$(SETUP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than Python 3.11; run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(SETUP)
	$(BIN)/prospect make-toy
	$(BIN)/prospect build-shards --split train
	$(BIN)/prospect build-shards --split val
	$(BIN)/prospect build-shards --split test
	$(BIN)/prospect train
	$(BIN)/prospect train --set name=toy-blind --set data.blind=true
	$(BIN)/prospect compare runs/toy runs/toy-blind
	$(BIN)/prospect evaluate --checkpoint runs/toy

test: $(SETUP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2

bench: $(SETUP)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

format: $(SETUP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
