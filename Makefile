# Everything runs in .venv, made on first use. TORCH is the pair the tests run with; any other pair may be named.
PYTHON ?= python3
TORCH ?= torch==2.12.1 torchvision==0.27.1
BIN := .venv/bin
# What the demo restores with: this one comes with the package, codeformer would be downloaded.
MODEL ?= codeformer_starter

.PHONY: demo test test-slow lint format node-docs

demo: .venv/.runtime
	$(BIN)/python -m codeformer_core demo --model "$(MODEL)"

# Two processes, each with one thread for its numbers: more threads than cores only wait for each other.
test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

# What takes minutes a case: whole trainings, the published networks in full, the other ComfyUI versions.
test-slow: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m slow

# pyright has to be told where the packages are: without torch's types it finds nothing wrong with what is done to them.
# Its second run holds all of codeformer_core to strict rules.
lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/pyright --pythonpath $(BIN)/python --project pyrightconfig.strict.json

# The nodes' definitions, recorded in the newest ComfyUI that is found (see CONTRIBUTING.md), and what is written from them.
node-docs: .venv/.dev
	CODEFORMER_UPDATE_DEFINITIONS=1 $(BIN)/python -m pytest tests/nodes/test_definitions.py -k recorded -m "not slow"
	$(BIN)/python -m tools.node_docs

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/.runtime: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

.venv/.dev: .venv/.runtime pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@
