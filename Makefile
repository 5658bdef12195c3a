# make demo: toy clips -> shards -> a practised, then trained model -> metric tables, a report.   make test: format, lint, types, tests.
# make fuzz: mutants of what is read back, CASES of each test.
# make check: the same without what is slow.   Every target sets itself up in .venv; a second call is quick.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
# Containers often set it. Packages are installed uncompiled: what is imported is compiled once, not in every process.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo check test fuzz docs bench bench-gpu bench-learning lock format

setup: .venv/.dev

.venv/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than Python 3.11; run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.demo: .venv/.created pyproject.toml constraints.txt
	$(PIP) -e '.[train,evaluate]'
	@touch $@

.venv/.dev: .venv/.created pyproject.toml constraints.txt
	$(PIP) -e '.[dev]'
	@touch $@ .venv/.demo

demo: .venv/.demo
	$(BIN)/prospect make-toy --preset hard --out data/toy-hard
	$(BIN)/prospect build-shards --split train --data-root data/toy-hard --out shards/hard
	$(BIN)/prospect build-shards --split val --data-root data/toy-hard --out shards/hard
	$(BIN)/prospect build-shards --split test --data-root data/toy-hard --out shards/hard
	$(BIN)/prospect practise
	$(BIN)/prospect train --config toy-hard
	$(BIN)/prospect train --config toy-hard --set name=toy-hard-blind --set data.blind=true
	$(BIN)/prospect compare runs/toy-hard runs/toy-hard-blind
	$(BIN)/prospect evaluate --checkpoint runs/toy-hard

lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint
	$(BIN)/pytest -n 2 -m "not slow" --ignore tests/e2e

test: lint
	$(BIN)/pytest -n 2

CASES ?= 300
fuzz: .venv/.dev
	PROSPECT_FUZZ_CASES=$(CASES) $(BIN)/pytest -n 2 --timeout 0 tests/fuzz tests/prospect/train/test_fuzz.py

docs: .venv/.dev  # docs/settings.md and the pictures (of the demo's run; chromium draws the report)
	$(BIN)/python docs/remake.py

bench: .venv/.dev
	@for script in $(filter-out benchmarks/gpu%,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

bench-gpu: .venv/.dev  # all that is measured on a GPU, in 25 minutes: runs/bench-gpu/gpu.json, and a table
	$(BIN)/python benchmarks/gpu.py

OUT ?= /tmp/prospect-learning
bench-learning: .venv/.dev  # what is learned, compared over seeds, under OUT: hours; what is done is not done again
	$(BIN)/python benchmarks/learning/decide.py --out $(OUT)/decide
	$(BIN)/python benchmarks/learning/memory.py --out $(OUT)/memory
	$(BIN)/python benchmarks/learning/pretrained.py --out $(OUT)/pretrained

lock: .venv/.created  # constraints.txt from pyproject.toml; versions stay, but that of make lock UPGRADE=PACKAGE
	$(BIN)/pip install --quiet --disable-pip-version-check pip-tools
	$(BIN)/pip-compile --quiet --all-extras --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links \
	  --no-annotate --no-header $(if $(UPGRADE),--upgrade-package $(UPGRADE)) --output-file constraints.txt pyproject.toml
	sed -i -e '/^#/d' -e '/^prospect-vlm/d' -e '/^$$/d' -e 's/+cpu$$//' -e '1i # $(LOCKED)' constraints.txt
LOCKED := Every version that an install takes, made by make lock. torch is the CPU build; for a GPU leave -c constraints.txt out.

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
