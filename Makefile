# Every target sets up what it needs. Two commands do everything: `make demo`, `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python
STAMP := .venv/.installed
PROTOS := $(shell find protos -name '*.proto')
OUTPUT = $(if $(OUT),--out $(OUT),)

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# A shim on PATH may exist and still fail, so each candidate has to run.
.venv/bin/python:
	@set -e; \
	for candidate in python3 python3.14 python3.13 python3.12 $$(ls -d $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.1[2-9]*/bin/python3 2>/dev/null | sort -rV); do \
	  if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then \
	    echo "python: $$($$candidate --version) ($$candidate)"; \
	    $$candidate -m venv .venv; \
	    exit 0; \
	  fi; \
	done; \
	echo "No Python >= 3.12 with venv was found (tried python3, python3.14, python3.13, python3.12 and pyenv's versions)." >&2; \
	echo "Install one, e.g. 'pyenv install 3.12' or your system's python3.12 and python3.12-venv, then run make again." >&2; \
	exit 1

$(STAMP): .venv/bin/python pyproject.toml constraints.txt
	@echo "setup: installing the locked packages into .venv (once)"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[embed,draw,jwt,mcp,otel,dev]'
	@$(PYTHON) -m compileall -q dreamsvc kernels clients/python
	@touch $@

setup: $(STAMP) ## Make .venv with everything in it

demo: $(STAMP) ## Import a real memory, dream, wake, resume, report (writes build/demo.json)
	@$(PYTHON) benchmarks/demo.py

test: $(STAMP) ## Run all tests
	@$(PYTHON) -m pytest

check: $(STAMP) ## Format, lint, types, protos, known vulnerabilities, tests
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m pyright
	.venv/bin/buf format --diff --exit-code
	.venv/bin/buf lint
	@tag=$$(git tag --list 'v*' --sort=-version:refname | head -n 1); \
	if [ -n "$$tag" ]; then .venv/bin/buf breaking --against ".git#tag=$$tag"; else echo "buf breaking: no release tag yet"; fi
	$(PYTHON) tests/audit.py
	$(PYTHON) -m pytest

format: $(STAMP) ## Format code and protos
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .
	.venv/bin/buf format --write

protos: $(STAMP) ## Generate dreamsvc/v1 and dreamsvc/dreamer/v1 from protos/
	@$(PYTHON) tests/generate.py .

lock: .venv/bin/python ## Write constraints.txt anew from what resolves today
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --upgrade --editable '.[embed,draw,jwt,mcp,otel,dev]' grpcio==1.82.3 grpcio-tools==1.82.3 grpcio-status==1.82.3 grpcio-health-checking==1.82.3 grpcio-reflection==1.82.3
	@$(PYTHON) -m pip freeze --exclude-editable > constraints.txt

bench: $(STAMP) ## make bench NAME=wake [DATA=dir] [COUNT=n] [OUT=file]; without NAME lists them
	@$(PYTHON) -m benchmarks $(NAME) $(if $(DATA),--data $(DATA),) $(if $(COUNT),--count $(COUNT),) $(OUTPUT)

crash: $(STAMP) ## make crash [KILLS=10000]: kill -9 of server and dreamer under load; nothing may be lost
	@$(PYTHON) -m benchmarks crash $(if $(KILLS),--count $(KILLS),) $(OUTPUT)

soak: $(STAMP) ## make soak [MINUTES=60]: mixed load; memory, handles and latencies must stay flat (plots a PNG)
	@$(PYTHON) -m benchmarks soak $(if $(MINUTES),--count $$(( $(MINUTES) * 60 )),) $(OUTPUT)

prove: $(STAMP) ## The long forms of all that proves that nothing is lost (hours); writes benchmarks/results
	@set -e; for name in crashpoints faults powerloss bitflips fuzz simulation crash; do $(PYTHON) -m benchmarks $$name; done

bench-gpu: $(STAMP) ## Kernels on a GPU against numpy and against the bandwidth floor
	@$(PYTHON) benchmarks/gpu.py $(OUTPUT)

clean: ## Remove what was built
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis *.egg-info

.PHONY: help setup demo test check format protos lock bench crash soak prove bench-gpu clean
