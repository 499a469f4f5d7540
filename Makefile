# make train [ARGS="trainer.max_epochs=5 …"]   set up and run the main job
# make test                                    set up and run the tests
# make check                                   format, lint, types, import contracts
# make lock                                    resolve pyproject.toml anew into requirements.lock
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
TORCH := 2.13.0

.PHONY: train test check lock
train: $(READY)
	$(BIN)/python src/train.py $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "foretrace needs Python 3.11 to 3.13; choose one with make PYTHON=python3.12")'
	@echo "Setting up .venv; this takes a few minutes the first time."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

# One torch for everybody, and any build of it: with or without CUDA is for the installing machine to say.
lock: $(READY)
	rm -f requirements.lock
	$(BIN)/pip-compile --quiet --strip-extras --all-extras --no-header --no-annotate --no-emit-options \
		--allow-unsafe --upgrade-package torch==$(TORCH) --output-file requirements.lock pyproject.toml
	sed -i -E 's/^(torch==[0-9.]+)\+.*/\1/' requirements.lock
