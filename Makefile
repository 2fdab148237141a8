# `make` alone says what there is. Every target sets up what it needs first; see dev/setup.py.

# The interpreter that .venv is made from: the first one of 3.11 or later. `make PYTHON=/path/to/python3.12 test` decides.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV_VERSION := 0.13.9

# `make demo EVENTS=folder`: recorded Stripe payloads instead of the built-in ones.
EVENTS ?=
# `make test ARGS="-k relay"`: handed to pytest; the same for bench.
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup programs demo run test check format bench peers soak fire fuzz lock clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

# dev/venv.py needs nothing but the standard library; the stamp is newer than the lock it was made from.
$(STAMP): requirements.lock pyproject.toml dev/venv.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: sudo apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) dev/venv.py $(VENV)

programs: $(STAMP)
	@$(BIN)/python -m dev.setup

setup: programs ## the virtual environment, the programs of Postgres and RabbitMQ, a browser for the tests; starts nothing
	@$(BIN)/python -m dev.browser

demo: programs ## the whole system, fed with signed Stripe events (EVENTS=folder: with your own), checked at the end
	@$(BIN)/python -m dev.demo $(if $(EVENTS),--events "$(EVENTS)") $(ARGS)

run: programs ## the whole system until Ctrl-C; keeps its data under .local/
	@$(BIN)/python -m dev.run $(ARGS)

test: setup ## every test (ARGS="-k relay" for some)
	@$(BIN)/python -m pytest $(ARGS)

check: $(STAMP) ## ruff, mypy, and the schema of compose.yaml
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy .
	@$(BIN)/python -m check_jsonschema --builtin-schema vendor.compose-spec compose.yaml

format: $(STAMP) ## what ruff can mend by itself
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

bench: programs ## the benchmarks
	@$(BIN)/python -m bench $(ARGS)

peers: programs ## the same events through what one would pick instead, in the same minutes (ARGS="--quick")
	@$(BIN)/python -m bench.peers $(ARGS)

soak: programs ## an hour at a steady rate: memory, handles, queues, tables (ARGS="--minutes 5 --rate 200")
	@$(BIN)/python -m bench.soak $(ARGS)

# Seconds for each target of `make fuzz`.
SECONDS := 60
fuzz: $(STAMP) ## the fuzzer that is led by coverage (SECONDS=600: so long for each target)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --upgrade --target .local/fuzz \
		-r requirements.fuzz.lock
	@PYTHONPATH=.local/fuzz $(BIN)/python -m tests.fuzz $(SECONDS)

fire: programs ## faults under a steady stream, every row of the table; the report goes to docs/fire.md (ARGS="--list")
	@$(BIN)/python -m fire $(ARGS)

COMPILE = .local/uv/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links --upgrade
lock: $(STAMP) ## the *.lock files anew, with the newest versions that pyproject.toml allows
	@test -x .local/uv/bin/uv || $(PYTHON) -m venv .local/uv
	@.local/uv/bin/pip install --quiet --quiet uv==$(UV_VERSION)
	@$(COMPILE) --extra dev --group build --output-file requirements.lock pyproject.toml
	@$(COMPILE) --constraint requirements.lock --output-file requirements.runtime.lock pyproject.toml
	@$(COMPILE) --constraint requirements.lock --group build --output-file requirements.build.lock
	@$(COMPILE) --group postgres --output-file requirements.postgres.lock
	@$(COMPILE) --group fuzz --output-file requirements.fuzz.lock
	@$(COMPILE) --group peers --output-file requirements.peers.lock

clean: ## removes .venv and .local, with all data of `make run`
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m dev.clean; fi
	@rm -rf $(VENV) .local build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} +
