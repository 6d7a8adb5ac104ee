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
.PHONY: help setup demo test lint format requirements clean

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
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

lint: $(VENV)/.installed-dev  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)

format: $(VENV)/.installed-dev  ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

requirements:  ## pin requirements*.txt anew, with hashes (needs uv)
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-header -q requirements.in -o requirements.txt
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-header -q requirements-dev.in -o requirements-dev.txt
	for image in $(IMAGE_REQUIREMENTS); do uv pip compile --python-version 3.11 --universal --generate-hashes --no-header -q \
		-c requirements.txt deploy/images/$$image.in -o deploy/images/$$image.txt || exit 1; done

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
