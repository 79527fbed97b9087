# `make train` and `make test` need nothing but Python 3.11 or newer: they set up .venv themselves.

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,\
	$(if $(shell $p -c 'import sys; print(int(sys.version_info >= (3, 11)))' 2>/dev/null | grep 1),$p)))
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Extra words for pip, for instance where to find a build of torch without CUDA.
PIP_ARGS ?=

RUN ?= runs/tiny
ARGS ?=
JOBS ?= 2
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable
# One thread per worker: two workers on two cores are faster than two threads in one.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

SPECS := pyproject.toml constraints.txt
OLDEST := 3.6.0
OLD_TRITON := $(VENV)/triton-$(OLDEST)

.PHONY: help train test test-all lint format dev browser constraints clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

train: $(VENV)/.core ## train `tiny` with a top-k layer on Python source code, score it, write its report
	$(BIN)/pellucid train tiny mlp=topk run=$(RUN) $(ARGS)
	$(BIN)/pellucid eval $(RUN)

test: $(VENV)/.dev browser ## the tests, slow proofs excepted
	$(PYTEST) $(ARGS)

test-all: $(VENV)/.extras $(OLD_TRITON)/triton browser ## every test; the slow ones are listed by name at the end
	PELLUCID_TRITON=$(abspath $(OLD_TRITON)) $(PYTEST) -m 'slow or not slow' $(ARGS)

# The oldest Triton that is supported, only to compile the kernels with.
$(OLD_TRITON)/triton: | $(VENV)/.dev
	@echo "fetching Triton $(OLDEST) to compile the kernels with (once)"
	@$(PIP) install -qq $(PIP_ARGS) --no-deps --target $(OLD_TRITON) triton==$(OLDEST)

lint: $(VENV)/.dev .typing/pellucid ## style, format, banned imports, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check --python $(VENV)

format: $(VENV)/.dev ## rewrite the code in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dev: $(VENV)/.dev .typing/pellucid ## everything a contributor needs, without running anything
	@echo "ready: . $(BIN)/activate"

# Type checkers do not follow an editable install; they follow this link.
.typing/pellucid:
	@mkdir -p .typing
	@ln -sfn .. $@

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Pellucid needs Python 3.11 or newer; found $$(python3 --version 2>&1)." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 2; fi
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Python cannot make a virtual environment: on Debian, apt-get install python3-venv" >&2; exit 2; }

$(VENV)/.core: $(SPECS) | $(BIN)/python
	@echo "installing Pellucid into $(VENV) (once; longer where CUDA comes with torch)"
	@$(PIP) install -qq --constraint constraints.txt $(PIP_ARGS) --editable .
	@touch $@

$(VENV)/.dev: $(SPECS) | $(BIN)/python
	@echo "installing Pellucid and its test tools into $(VENV) (once; longer where CUDA comes with torch)"
	@$(PIP) install -qq --constraint constraints.txt $(PIP_ARGS) --editable '.[dev]'
	@touch $(VENV)/.core $@

$(VENV)/.extras: $(VENV)/.dev
	@echo "installing Ray, submitit and lm-evaluation-harness for the tests that need them (once)"
	@$(PIP) install -qq --constraint constraints.txt $(PIP_ARGS) --editable '.[dev,ray,slurm,harness]'
	@touch $@

# The tests of the pages need a Chromium. Where it takes no question to get one, get it, once; the
# tests' summary tells everyone else what to do.
browser: | $(BIN)/python
	@which $(BROWSERS) 2>/dev/null | grep -q . || [ -e $(VENV)/.no-browser ] || \
	if [ "$$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; then \
		echo "installing Chromium for the tests of the pages (once)"; \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y --no-install-recommends chromium; } >$(VENV)/browser.log 2>&1 </dev/null \
		|| { touch $(VENV)/.no-browser; echo "that failed ($(VENV)/browser.log): going on without"; }; \
	fi

constraints: $(VENV)/.dev ## pin what is installed now
	@{ grep '^#' constraints.txt; $(PIP) freeze --all --exclude pip --exclude pellucid --exclude-editable \
		| sed 's/+.*//'; } > constraints.new && mv constraints.new constraints.txt
	@touch $(VENV)/.core $(VENV)/.dev

clean: ## remove the environment and everything built; runs stay
	rm -rf $(VENV) .typing build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
