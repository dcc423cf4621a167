# Penstock's commands for people. A fresh Debian or Ubuntu needs only: make python3 python3-venv.
#
#   make demo          a gateway, a cluster, a real analysis, a plot; leaves nothing behind
#   make demo KEEP=1   the same, and leaves gateway and cluster up to look around
#   make test          environment, static checks, the whole suite
#   make help          the rest

PYTHON ?= python3
KEEP ?=
# Arguments for pytest, e.g. make test T="tests/unit -k changelog"
T ?=
# Processes that the tests run in: much of their time is waiting for batch systems.
N ?= 3

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq --retries 5 --timeout 60

.DEFAULT_GOAL := help
.PHONY: help venv fmt check test need-test-tools demo bench-door bench-control bench-slurm bench-htcondor changelog wheel clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

# --- environment -------------------------------------------------------------------------------

# Says in one sentence what is missing: without it Debian's venv fails with half an environment.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "Penstock needs Python 3.10 or newer, and '$(PYTHON)' is not here: sudo apt install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "Penstock needs Python 3.10 or newer; '$(PYTHON)' is $$($(PYTHON) --version). Name another: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv: sudo apt install python3-venv" >&2; exit 1; }
	@echo "Making the virtual environment $(VENV) with $$($(PYTHON) --version) …"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.made
	@echo "Installing Penstock and what the demo needs into $(VENV) (a minute or two) …"
	@$(PIP) install --editable '.[server,demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.made
	@echo "Installing Penstock and what its tests need into $(VENV) (a minute or two) …"
	@$(PIP) install --editable '.[dev]'
	@touch $(VENV)/.demo $@

venv: $(VENV)/.dev ## make .venv with everything for development

# --- checks and tests --------------------------------------------------------------------------

fmt: $(VENV)/.dev ## format the code, fix what ruff can fix
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

check: $(VENV)/.dev ## format, lint, types, layers, change notes
	@$(BIN)/ruff format --check --quiet || { $(BIN)/ruff format --check; echo "Run: make fmt" >&2; exit 1; }
	@$(BIN)/ruff check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports --cache-dir $(VENV)/.import_linter_cache
	@$(BIN)/python tools/changelog.py check

# A missing tool stops the run with its package's name; it never turns tests into skipped ones.
need-test-tools:
	@missing=; \
	PATH="$$PATH:/usr/sbin"; \
	/usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	ls /usr/lib/*/slurm*/auth_jwt.so >/dev/null 2>&1 || missing="$$missing slurm-wlm-jwt-plugin"; \
	for pair in useradd:passwd ip:iproute2 chromium:chromium chromedriver:chromium-driver openssl:openssl ps:procps \
	  slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client munged:munge \
	  slurmrestd:slurmrestd slurmdbd:slurmdbd mariadbd:mariadb-server-core sudo:sudo setpriv:util-linux sshd:openssh-server ssh:openssh-client; do \
	  command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; \
	done; \
	[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing="$$missing debian-archive-keyring"; \
	[ -z "$$missing" ] || { echo "The tests need more: sudo apt install$$missing" >&2; exit 1; }

test: need-test-tools check ## static checks, then the whole suite
	@$(BIN)/python -m pytest -n $(N) --dist loadscope --no-loadscope-reorder $(T)

# --- demo and benches --------------------------------------------------------------------------

demo: $(VENV)/.demo ## gateway, cluster and a real analysis (KEEP=1 leaves them up)
	@$(BIN)/python examples/demo.py $(if $(KEEP),--keep)

bench-door: $(VENV)/.dev ## the front door beside the Go proxy and a direct connection
	@$(BIN)/python -m bench.door

bench-slurm: $(VENV)/.dev ## clusters on a real Slurm beside dask-gateway-server (root)
	@$(BIN)/python -m bench.slurm

bench-htcondor: $(VENV)/.dev ## clusters on a real HTCondor beside dask-jobqueue (root)
	@$(BIN)/python -m bench.htcondor

bench-control: $(VENV)/.dev ## 1,000 clusters of 100 workers on the fake backend
	@$(BIN)/python -m bench.control

# --- releases ----------------------------------------------------------------------------------

changelog: $(VENV)/.dev ## move changelog.d/ into CHANGELOG.md: make changelog VERSION=0.2.0
	@$(BIN)/python tools/changelog.py build '$(VERSION)'

wheel: $(VENV)/.made ## build the wheel into dist/
	@$(PIP) wheel --no-deps --wheel-dir dist .

clean: ## delete .venv, caches and whatever was built
	@rm -rf $(VENV) build dist demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find src tests examples tools bench -name __pycache__ -type d -prune -exec rm -rf {} +
