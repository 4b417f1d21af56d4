# Everything runs in .venv, which each target builds or renews first where that is needed.
# Another Python: make test PYTHON=python3.12.   Part of the tests: make test ARGS="-k qa".

PYTHON ?= python3
ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python
# Written last, so it exists only after an install that went all the way.
STAMP := $(VENV)/installed.stamp

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-web lint clean

help:
	@echo "make demo   all nine tasks answer, on real models, and one is finetuned"
	@echo "make test   the whole test suite (part of it: ARGS=\"-k qa\")"
	@echo "make test-web  the server's pages in Chromium, which is installed where that is possible"
	@echo "make lint   ruff and mypy"
	@echo "make clean  remove what make and the tools made here (downloaded models stay)"

demo: $(STAMP)
	$(VENV)/bin/backprop demo $(ARGS)

test: $(STAMP)
	$(RUN) -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-web: $(STAMP)
	@command -v chromium >/dev/null || { \
		echo "Installing Chromium"; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu; \
	} || { echo "make test-web needs Chromium; install the package chromium as root" >&2; exit 1; }
	$(RUN) -m pytest tests/web $(ARGS)

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy .

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A virtual environment knows its own path and its Python: in a copied or moved folder, or after that
# Python has gone, it is built anew. One whose install was broken off is kept and the install redone.
USABLE = $(RUN) -c "" 2>/dev/null && grep -qsF "$(CURDIR)/$(VENV)" $(VENV)/bin/activate

$(STAMP): pyproject.toml constraints.txt
	@rm -f $@
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "backprop needs Python 3.10 or newer; PYTHON=$(PYTHON) is: $$($(PYTHON) --version 2>&1)"; \
		echo "Name another one: make PYTHON=python3.12"; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' || { \
		echo "$(PYTHON) can't make virtual environments; on Debian and Ubuntu: apt-get install python3-venv"; \
		exit 1; } >&2
	@if ! { $(USABLE) && $(RUN) -m pip --version >/dev/null 2>&1; }; then \
		echo "Making $(VENV) with $(PYTHON) ($$($(PYTHON) --version))"; \
		$(PYTHON) -m venv --clear $(VENV); \
	fi
	@echo "Installing backprop and its tools into $(VENV); the first time takes a few minutes"
	$(RUN) -m pip install --constraint constraints.txt --editable '.[dev,fast,serve,web]'
	@touch $@

# A copied stamp is as new as the one it was copied from, so ask the environment itself.
ifneq ($(shell $(USABLE) && echo usable),usable)
$(STAMP): unusable
.PHONY: unusable
unusable:
endif
