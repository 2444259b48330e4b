# The two commands of the README are `make demo` and `make test`. Each sets up all it needs in .venv, once.
PYTHON ?= python3
# E.g. PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" for a small CPU build of PyTorch on Linux.
PIP_ARGS ?=
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
# Tests run in as many processes at once, each with one thread (Testing/Python/conftest.py); 0: one after the other.
TEST_JOBS ?= 2
DEMO := demo-results
SCREENSHOTS := docs/screenshots/panels

.PHONY: demo test lint bench screenshots clean
.DELETE_ON_ERROR:

# Made anew when the pinned requirements change; written last, so that an interrupted installation is done again.
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "error: Python 3.10 to 3.13 is needed; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/breastusai run Testing/Data/images --output $(DEMO) --overwrite
	@echo "Open $(DEMO)/index.html in a browser; each scene.mrb opens in 3D Slicer."

test: $(VENV)/.installed
	$(BIN)/python -m ruff check .
	QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest -n $(TEST_JOBS)

lint: $(VENV)/.installed
	$(BIN)/python -m ruff check .

bench: $(VENV)/.installed
	$(BIN)/python Testing/benchmarks --write

# A picture of every panel, drawn without a screen on the stand-in for Slicer's GUI.
screenshots: $(VENV)/.installed
	mkdir -p $(SCREENSHOTS)
	BREASTUSAI_SCREENSHOTS=$(abspath $(SCREENSHOTS)) QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest -q -k picture_of_the_panel \
	  Testing/Python/test_segment_widget.py Testing/Python/test_module_*.py

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
