# Two commands do everything: `make smoke` and `make test`. Both make their own environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: smoke test install clean

smoke: install
	$(BIN)/python -m benchmarks.run --grid smoke

# an installation keeps one core busy, so the environments are made side by side, and then used one after the other
test: $(VENV)/.tox-installed
	$(BIN)/tox run-parallel --parallel auto --notest
	$(BIN)/tox run --skip-pkg-install

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable .
	touch $@

# tox makes the environments that tests run in; beside it nothing is needed here
$(VENV)/.tox-installed: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt tox
	touch $@

clean:
	rm -rf $(VENV) .tox build *.egg-info
