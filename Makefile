# make demo    convert the sample network and prove it (base install only)
# make test    lint, type check and the whole test suite (all extras in .venv, other runtimes in .runtimes)
# make fast    the tests that take seconds
# make docs    the generated tables of docs/
# make apple   Apple's own test suites of Core ML through hub's reader, into docs/coreml-apple.md (hours)
# make bench   the benchmarks, into docs/benchmarks.md

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_FLAGS := --quiet --disable-pip-version-check
export PIP_NO_INPUT = 1
export HUB_RUNTIMES_DIR = $(CURDIR)/.runtimes

.PHONY: demo test fast lint check docs apple bench clean

demo: .demo/installed
	@.demo/venv/bin/hub demo .demo/output

test: .venv/installed .runtimes/installed .suites/installed lint
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist worksteal

fast: .venv/installed .runtimes/installed
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m "not slow" -n 2 --dist worksteal

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

docs: .venv/installed
	.venv/bin/python -m tools.schemas
	.venv/bin/python -m tools.tables
	.venv/bin/python -m tests.conformance --write docs/conformance.md

apple: .venv/installed .suites/installed
	.venv/bin/python -m tests.apple --suite mil
	.venv/bin/python -m tests.apple --suite nn
	.venv/bin/python -m tests.apple --suite torch --sample 1500 --seed 5 --write docs/coreml-apple.md

bench: .venv/installed .suites/installed
	.venv/bin/python -m benchmarks --write docs/benchmarks.md

.demo/installed: pyproject.toml constraints.txt Makefile
	@echo "setting up .demo (a virtual environment with the base install)"
	@$(PYTHON) -m venv .demo/venv
	@.demo/venv/bin/pip install $(PIP_FLAGS) -c constraints.txt -e .
	@touch $@

.venv/installed: pyproject.toml constraints.txt tests/requirements.txt Makefile
	@echo "setting up .venv (a virtual environment with all extras; it takes minutes)"
	@$(PYTHON) -m venv .venv
	@.venv/bin/pip install $(PIP_FLAGS) -c constraints.txt torch==2.13.0
	@.venv/bin/pip install $(PIP_FLAGS) -c constraints.txt -e ".[all,dev]"
	@.venv/bin/pip install $(PIP_FLAGS) --no-deps -r tests/requirements.txt
	@rm -rf .venv/lib/python*/site-packages/tests  # of two of these packages, which hides the one here
	@touch $@

# What the test suites of coremltools import, whose PyTorch frontend needs NumPy below 2.4; a peer of the benchmarks.
.suites/installed: .venv/installed Makefile
	@.venv/bin/pip install $(PIP_FLAGS) --upgrade --no-deps --target .suites/numpy "numpy<2.4"
	@.venv/bin/pip install $(PIP_FLAGS) --upgrade --no-deps --target .suites/packages "pillow>=11" pandas python-dateutil
	@.venv/bin/pip install $(PIP_FLAGS) --upgrade --no-deps --target .suites/onnx2torch onnx2torch==1.5.15
	@.venv/bin/pip install $(PIP_FLAGS) --upgrade --no-deps --target .suites/polygraphy polygraphy==0.53.6
	@touch $@

# Where a runtime cannot be installed, its tests are skipped, but in CI.
.runtimes/installed: .venv/installed $(wildcard hub/runtimes/*.py)
	@missing=; for name in caffe cntk cntk-python; do .venv/bin/hub runtimes install $$name || missing=1; done; \
	[ -n "$$missing" ] || touch $@; [ -z "$$missing" ] || [ "$$CI" != true ]

clean:
	rm -rf .venv .demo .runtimes .suites build dist *.egg-info
