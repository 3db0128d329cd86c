# Each target makes what it needs on a fresh machine: a virtual environment and the pinned packages in it.
PYTHON ?= python3
BIN := .venv/bin
# What `msa` needs is installed, and what tests, lint and benchmarks need besides.
READY := .venv/.ready
READY_DEV := .venv/.ready-dev

.PHONY: demo test test-quick test-slurm lint bench clean

demo: $(READY)
	$(BIN)/msa sweep cpsl --storage runs/demo --trials 16 --epochs 12 --set search.pruner.min_epochs=4
	$(BIN)/msa status runs/demo
	$(BIN)/msa ablate cpsl --storage runs/demo-ablation --designs leave_one_out --tuning none --seeds 5 --epochs 6 \
		--components text,vision,statistical_loss,conflict_penalty

test: $(READY_DEV)
	.ci/packages
	$(BIN)/pytest -n 4

test-quick: $(READY_DEV)
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

# Jobs of a real SLURM, which has to be installed: its time limits want a machine that does nothing else meanwhile.
test-slurm: $(READY_DEV)
	.ci/packages
	MSA_SLURM=1 $(BIN)/pytest -n 2 tests/slurm

lint: $(READY_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(READY_DEV)
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf .venv runs build *.egg-info

$(READY): pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -qq --constraint requirements.lock --editable .
	touch $(READY)

$(READY_DEV): $(READY)
	$(BIN)/pip install -qq --constraint requirements.lock --editable '.[dev]'
	touch $(READY_DEV)
