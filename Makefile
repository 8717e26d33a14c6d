# `make serve` and `make test` work on a fresh clone with nothing but Python >= 3.11 and make.

PYTHON ?= python3
VENV   ?= .venv
HOST   ?= 127.0.0.1
PORT   ?= 8000
CONFIG ?= examples/langgraph.json
ARGS   ?=

# Two whose servers share two cores, and a third for what they leave (tests/spreading.py): with servers of
# its own it would have them starve each other.
WORKERS ?= 3
SPREAD  := -n $(WORKERS) --no-loadscope-reorder

# The reference server has an environment of its own: nothing of ours depends on it.
REFERENCE := .venv-reference

# Another server to compare with. It needs a Python of 3.12 or newer: the first one that is there.
AEGRA       := .venv-aegra
NEWER       := python3.14 python3.13 python3.12 python3 $(PYTHON)

BIN := $(VENV)/bin
# Whatever index this machine is configured for is used; pip is asked to be brief.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install serve dev stop test test-lowest test-newest notebooks chaos cluster-test soak wheel-test lint check bench settings constraints conformance-reference clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-21s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PYTHON=$(PYTHON) HOST=$(HOST) PORT=$(PORT) CONFIG=$(CONFIG) can be given, and ARGS are passed on,"
	@echo "  for example: make serve PORT=8001, or make test ARGS='-k settings'"

install: $(VENV)/.installed ## Create .venv and install what serving needs

serve: $(VENV)/.installed ## Serve the examples (Ctrl-C ends everything)
	@exec $(BIN)/greenroom serve --config $(CONFIG) --host $(HOST) --port $(PORT) $(ARGS)

dev: $(VENV)/.installed ## The same, and the next run has what was changed
	@exec $(BIN)/greenroom dev --config $(CONFIG) --host $(HOST) --port $(PORT) $(ARGS)

stop: $(VENV)/.installed ## End the server that `make serve` has started here
	@$(BIN)/greenroom stop

# Some hundred processes import Greenroom: one compiles it, though the environment may forbid to keep that.
test notebooks: export PYTHONDONTWRITEBYTECODE =

test: $(VENV)/.installed-dev ## Run the tests
	@$(BIN)/python -m pytest $(SPREAD) $(ARGS)

test-lowest: .venv-lowest/.installed ## Run the tests with the lowest versions that pyproject.toml allows
	@.venv-lowest/bin/python -m pytest $(SPREAD) $(ARGS)

test-newest: .venv-newest/.installed ## Run the tests with the newest versions that pyproject.toml allows
	@.venv-newest/bin/python -m pytest $(SPREAD) $(ARGS)

# No notebook kills a gateway or HAProxy, so that none needs to stand by, and Serve's proxy is enough.
notebooks: export GREENROOM_GATEWAY_REPLICAS ?= 1
notebooks: export GREENROOM_HAPROXY ?= false

notebooks: $(VENV)/.installed-dev ## Run all notebooks from top to bottom
	@$(BIN)/python -m pytest --nbmake --nbmake-timeout=300 -o addopts= -p no:randomly --timeout=600 \
	  -n $(WORKERS) --dist worksteal notebooks $(ARGS)

chaos: $(VENV)/.installed-dev ## Kill everything at random, with three seeds; then the slow tests
	@$(BIN)/python -m tests.reliability.chaos --runs 300 --seed 7 --seed 8 --seed 9 --keep $(ARGS)
	@$(BIN)/python -m pytest -m slow tests --ignore tests/cluster

cluster-test: $(VENV)/.installed-dev ## Several Ray nodes: lost nodes, an autoscaler, docs/deploy.md
	@$(BIN)/python -m pytest -m '' tests/cluster $(ARGS)

soak: $(VENV)/.installed-dev ## Ten minutes of the same, and no process may grow
	@$(BIN)/python -m tests.reliability.chaos --minutes 10 --memory --kill 0.05 --keep $(ARGS)

# Names or paths; without any, the oldest and the newest on the PATH.
PYTHONS ?=

wheel-test: $(VENV)/.installed ## Build the wheel, install it elsewhere, serve a new project with it
	@$(BIN)/python -m tests.installed $(ARGS) $(PYTHONS)

lint: $(VENV)/.installed-dev ## Formatting and lint
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

check: lint ## Formatting, lint and types
	@$(BIN)/pyright

bench: $(VENV)/.installed-dev $(AEGRA)/.installed ## Measure; results belong in docs/benchmarks.md
	@$(BIN)/python -m benchmarks $(ARGS)

settings: $(VENV)/.installed ## Write docs/settings.md and docs/configuration.md anew from the code
	@$(BIN)/python -m doc_pages.settings > docs/settings.md
	@$(BIN)/python -m doc_pages.configuration > docs/configuration.md

constraints: $(VENV)/.installed-dev ## Write constraints.txt anew from what is installed
	@# torch's builds for CPUs say so behind their version, which others do not have.
	@{ sed -n '/^#/p' constraints.txt; \
	   $(BIN)/python -m pip freeze --all --exclude-editable --exclude pip | sed 's/+cpu$$//' \
	   | grep -E '^[A-Za-z0-9._-]+==[^ ]+$$'; \
	 } > $(VENV)/constraints.txt
	@mv $(VENV)/constraints.txt constraints.txt

conformance-reference: $(VENV)/.installed-dev $(REFERENCE)/.installed ## Ask the reference server what the tests ask ours
	@$(BIN)/python -m tests.conformance.reference $(REFERENCE)

clean: ## Remove the environment and caches (the data in .greenroom stays)
	rm -rf $(VENV) .venv-lowest .venv-newest $(REFERENCE) $(AEGRA) .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp says which pyproject.toml and constraints.txt the environment was made from, so that
# starting again costs nothing. It is written last: an installation that failed is repeated.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Greenroom needs Python 3.11 or newer; name one with make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Creating $(VENV) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Greenroom and what it needs (once; a few minutes at most) ..."
	@$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing what the tests need ..."
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $@

# pip has no resolution of lowest versions; uv has, and is in no other environment.
.venv-%/.installed: pyproject.toml
	@$(PYTHON) -m venv --clear .venv-$*
	@.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check uv
	@.venv-$*/bin/uv pip compile --quiet --no-header --extra dev -p .venv-$*/bin/python \
	  --resolution $(RESOLUTION_$*) -o .venv-$*/requirements.txt pyproject.toml
	@.venv-$*/bin/uv pip install --quiet -p .venv-$*/bin/python -r .venv-$*/requirements.txt
	@.venv-$*/bin/uv pip install --quiet -p .venv-$*/bin/python --no-deps -e .
	@touch $@

RESOLUTION_lowest := lowest-direct
RESOLUTION_newest := highest

$(REFERENCE)/.installed:
	@test -x $(REFERENCE)/bin/python || $(PYTHON) -m venv $(REFERENCE)
	@echo "Installing the reference server (Elastic licence; it is only asked, never read) ..."
	@$(REFERENCE)/bin/python -m pip install --quiet --disable-pip-version-check \
	  'langgraph-cli[inmem]' 'langgraph-api==0.16.7'
	@touch $@

# Without such a Python this does nothing but say so, and the benchmarks leave Aegra out.
$(AEGRA)/.installed:
	@for python in $(NEWER); do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null || continue; \
	  echo "Installing Aegra (Apache 2.0; it is only asked, never read) with $$python ..."; \
	  $$python -m venv $(AEGRA) || exit 1; \
	  $(AEGRA)/bin/python -m pip install --quiet --disable-pip-version-check \
	    'aegra-api==0.11.*' 'aegra-cli==0.11.*' || exit 1; \
	  touch $@; exit 0; \
	done; \
	echo "Aegra is left out: it needs Python 3.12 or newer, and none of $(NEWER) is one." >&2
