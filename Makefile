# The only entry points. `make` alone says what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PACKAGES := shared services/ipmi-gateway services/esp8266-agent services/rpi-gpio-agent services/sol-relay services/bmc-agent services/simulator cli
PYPROJECTS := $(addsuffix /pyproject.toml,$(PACKAGES))
SOURCES := $(addsuffix /src,$(PACKAGES))
IMAGE_REQUIREMENTS := build shared ipmi-gateway rpi-gpio-agent sol-relay bmc-agent

.DEFAULT_GOAL := help
.PHONY: help setup demo up test conformance e2e e2e-docker faults mutants fuzz bench lint docs record format requirements clean

help:  ## what there is
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 20

setup: $(VENV)/.installed  ## make the virtual environment .venv with every package

$(VENV)/.venv-made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pypmi needs Python 3.11 or newer; run make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV) || { echo "no venv module: apt-get install python3-venv, or make PYTHON=..." >&2; exit 1; }
	touch $@

$(VENV)/.installed: $(VENV)/.venv-made requirements.txt $(PYPROJECTS)
	$(PIP) install -q --require-hashes -r requirements.txt
	$(PIP) install -q --no-deps --no-build-isolation $(addprefix -e ,$(PACKAGES))
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(PIP) install -q --require-hashes -r requirements-dev.txt
	touch $@

demo: setup  ## broker, gateway, agent and simulated boards in the foreground, ready for ipmitool (ARGS="--nodes 8 ...")
	@$(BIN)/pypmi demo $(ARGS)

test: $(VENV)/.installed-dev  ## every test (needs mosquitto, ipmitool and freeipmi-tools on the PATH; ARGS="-k name ...")
	$(BIN)/python -m pytest -n 3 --dist loadgroup -m "not e2e and not nightly" $(ARGS)

# Third-party programs that the end-to-end tests drive. Each is pinned with hashes and lives in a virtual environment of its own.
E2E := tests/e2e
find_python = $(firstword $(foreach name,$(1),$(shell $(name) -c 'import sys; print(sys.executable)' 2>/dev/null)))
PYTHON_3_11 ?= $(call find_python,python3.11 python3.12)
PYTHON_3_13 ?= $(call find_python,python3.13 $(wildcard $(HOME)/.pyenv/versions/3.13.*/bin/python))
PYTHON_3_14 ?= $(call find_python,python3.14 $(wildcard $(HOME)/.pyenv/versions/3.14.*/bin/python))
E2E_VENVS := .venv-ha/.installed .venv-ironic/.installed $(if $(PYTHON_3_13),.venv-ha-2025/.installed) \
	$(if $(PYTHON_3_14),.venv-ha-2026/.installed)

.venv-ha/.installed: PINNED_PYTHON = $(PYTHON_3_11)
.venv-ha/.installed: $(E2E)/requirements-home-assistant.txt
.venv-ha-2025/.installed: PINNED_PYTHON = $(PYTHON_3_13)
.venv-ha-2025/.installed: $(E2E)/requirements-home-assistant-2025.txt
.venv-ha-2026/.installed: PINNED_PYTHON = $(PYTHON_3_14)
.venv-ha-2026/.installed: $(E2E)/requirements-home-assistant-2026.txt
.venv-ironic/.installed: PINNED_PYTHON = $(PYTHON_3_11)
.venv-ironic/.installed: $(E2E)/requirements-ironic.txt
.venv-%/.installed:
	$(PINNED_PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip --disable-pip-version-check install -q --require-hashes -r $<
	touch $@

e2e: $(VENV)/.installed-dev $(E2E_VENVS)  ## end-to-end tests with real Home Assistant and Ironic (installs both; ARGS="-k name ...")
	$(if $(PYTHON_3_13),,@echo "no Python 3.13 here: Home Assistant 2025.4 is left out, 2024.3 is tested")
	$(if $(PYTHON_3_14),,@echo "no Python 3.14 here: Home Assistant 2026.11 is left out")
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m e2e $(E2E) $(ARGS)

e2e-docker: setup  ## bring docker-compose.yml up for real on simulated boards (needs a Docker engine; SIZES=file writes a table)
	PYPMI=$(BIN)/pypmi SIZES=$(SIZES) tests/e2e_docker.sh

conformance: $(VENV)/.installed-dev  ## what pypmi, ipmi_sim and pyghmi's server pass, into docs/conformance.md (needs openipmi; 10 minutes)
	$(BIN)/python -m tests.conformance.compare --write docs/conformance.md

up: setup  ## run the fleet in FLEET (made by `pypmi init`) as processes, in the foreground
	@$(BIN)/pypmi up $(or $(FLEET),fleet)

# Reliability and security: what these show stands in docs/reliability.md and docs/security.md.
ROUNDS ?= 1
FUZZ_SECONDS ?= 60

faults: $(VENV)/.installed-dev  ## break every line and process in every phase, write the table of docs/reliability.md (ROUNDS=n, ARGS="-n 2 ...")
	$(BIN)/python tests/faults/table.py --rounds $(ROUNDS) $(ARGS)

mutants: $(VENV)/.installed-dev  ## take out each safety rule in a copy of the tree: a test must fail each time (ARGS="word ..." of the rule)
	$(BIN)/python tests/mutants/run.py $(ARGS)

.venv-fuzz/.installed: fuzz/requirements.txt $(VENV)/.installed-dev
	$(BIN)/python -m venv $(@D)
	$(@D)/bin/python -m pip --disable-pip-version-check install -q --require-hashes -r requirements.txt -r fuzz/requirements.txt
	$(@D)/bin/python -m pip --disable-pip-version-check install -q --no-deps --no-build-isolation $(addprefix -e ,$(PACKAGES))
	touch $@

fuzz: .venv-fuzz/.installed  ## fuzz every parser, two at a time (FUZZ_SECONDS=60 each, ARGS="target ...")
	.venv-fuzz/bin/python -m fuzz --seconds $(FUZZ_SECONDS) $(ARGS)

lint: $(VENV)/.installed-dev  ## ruff, mypy --strict and hadolint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)
	@if [ -x $(BIN)/hadolint ]; then echo "$(BIN)/hadolint deploy/Dockerfile"; $(BIN)/hadolint deploy/Dockerfile; \
	else echo "no hadolint for this machine: deploy/Dockerfile is not checked"; fi

bench: $(VENV)/.installed-dev  ## measure speed and scale beside ipmi_sim and pyghmi (needs openipmi, gcc, libssl-dev; ARGS=--quick)
	$(BIN)/python bench/run.py $(ARGS)

docs: $(VENV)/.installed  ## make the generated parts of the docs and the diagrams anew
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/draw.py

record: $(VENV)/.installed  ## record the README's terminal session anew (needs ipmitool, mosquitto-clients)
	$(BIN)/python docs/record.py

format: $(VENV)/.installed-dev  ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

requirements:  ## pin requirements*.txt anew, with hashes (needs uv)
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-header -q requirements.in -o requirements.txt
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-header -q requirements-dev.in -o requirements-dev.txt
	for image in $(IMAGE_REQUIREMENTS); do uv pip compile --python-version 3.11 --universal --generate-hashes --no-header -q \
		-c requirements.txt deploy/images/$$image.in -o deploy/images/$$image.txt || exit 1; done
	for name in home-assistant ironic; do uv pip compile --python-version 3.11 --generate-hashes --no-header -q \
		$(E2E)/requirements-$$name.in -o $(E2E)/requirements-$$name.txt || exit 1; done
	uv pip compile --python-version 3.13 --generate-hashes --no-header -q \
		$(E2E)/requirements-home-assistant-2025.in -o $(E2E)/requirements-home-assistant-2025.txt
	uv pip compile --python-version 3.14.2 --generate-hashes --no-header -q \
		$(E2E)/requirements-home-assistant-2026.in -o $(E2E)/requirements-home-assistant-2026.txt
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-header -q fuzz/requirements.in -o fuzz/requirements.txt

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .venv-* .mypy_cache .ruff_cache .pytest_cache
