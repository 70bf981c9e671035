# make run | test | lab | review | lint, each after setting up .venv where that is needed
# (tools/set_up.py).
#   PYTHON=python3.12   set up with this Python
#   PY=python           use the active environment, as it is, in place of .venv
#   ARGS="--quick"      options for the command: make run ARGS=--quick, make test ARGS="-k verdicts"
PYTHON ?= python3
PY ?= .venv/bin/python
READY := $(if $(filter .venv/bin/python,$(PY)),.venv/ready)

.PHONY: run test lab review lint

run: $(READY)
	$(PY) -m nbutils.run --profile recorded $(ARGS)

test: $(READY)
	$(PY) -m pytest $(ARGS)

lab: $(READY)
	$(PY) -m jupyterlab --LabApp.default_url=/lab/tree/notebooks $(ARGS)

# Notebook 04 as a page without code, for this machine alone: open the address that it prints.
review: $(READY)
	$(PY) -m tools.serve_review $(ARGS)

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m tools.check_notebooks

.venv/ready: pyproject.toml constraints.txt tools/set_up.py
	@$(PYTHON) tools/set_up.py
