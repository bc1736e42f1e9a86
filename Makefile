# A fresh machine needs Python >= 3.11 and make; everything else is installed into .venv.
#   make demo    train on handwritten digits through the whole real path, print what came out
#   make test    run the test suite in two processes (ARGS="tests/flow -x -n 0" narrows it to one)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CHEMISTRY := $(VENV)/.chemistry
UV := $(BIN)/uv pip
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
ARGS ?=

.PHONY: help demo test test-all numeric lint mutants format lock clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 10

demo: $(STAMP)  ## train on handwritten digits, end to end, and print what came out
	$(BIN)/python jobs/train.py $(ARGS)

test: $(STAMP) $(CHEMISTRY)  ## run the test suite; ARGS="tests/flow -x" narrows it
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

ALONE := fault and long
test-all: $(STAMP) $(CHEMISTRY)  ## the suite with the tests that take minutes: learning, then faults
	$(BIN)/python -m pytest -n 2 --dist worksteal --all -m "not ($(ALONE))" $(ARGS) || [ $$? -eq 5 ]
	$(BIN)/python -m pytest -n 0 --all -m "$(ALONE)" $(ARGS) || [ $$? -eq 5 ]

NUMERIC := tests/flow tests/models tests/metrics tests/domains tests/sampling tests/evaluation \
	$(addprefix tests/training/test_,step.py exchange.py ema.py adversarial.py \
	plain_trainer.py golden_curve.py muon.py losses.py)
PROCESSORS := OMP_NUM_THREADS=1 OMP_NUM_THREADS=2 OPENBLAS_CORETYPE=Haswell \
	OPENBLAS_CORETYPE=Sandybridge MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=default

numeric: $(STAMP) $(CHEMISTRY)  ## the tests of numbers as other processors would compute them
	@for processor in $(PROCESSORS); do echo "== $$processor"; env OMP_WAIT_POLICY=PASSIVE $$processor \
		$(BIN)/python -m pytest -q -n 0 -m "not ray and not gpu" $(NUMERIC) $(ARGS) || exit 1; done

lint: $(STAMP) $(CHEMISTRY)  ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

mutants: $(STAMP)  ## change the code in 300 places, one at a time, and see that a test fails
	$(UV) install --quiet --group mutants
	$(BIN)/python tests/mutants/run.py $(ARGS)

format: $(STAMP)  ## rewrite the code in the house style
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

LOCK := $(UV) compile pyproject.toml --quiet --extra test --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --output-file

lock: $(STAMP)  ## resolve pyproject.toml into both lock files again (keeps what still fits)
	$(LOCK) requirements.lock
	$(LOCK) requirements-chem.lock --extra chem --extra chem-parity --constraint requirements.lock

clean:  ## remove the virtual environment and caches (runs/ stays)
	rm -rf $(VENV) .pytest_cache .ruff_cache platform/unite.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so an interrupted installation is taken up again. A virtual
# environment made by venv keeps pip and uv through `uv pip sync`.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "unite needs Python 3.11 or newer; '$(PYTHON)' is" \
			"$$($(PYTHON) --version 2>/dev/null || echo missing)." \
			"Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing requirements.lock into $(VENV) (at first several GB: torch brings CUDA)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) sync --compile-bytecode --require-hashes requirements.lock
	$(UV) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Chemistry packages (600 MB): the tests of molecules and crystals bring them, nothing else does.
$(CHEMISTRY): requirements-chem.lock $(STAMP)
	$(UV) install --quiet --no-deps --require-hashes --requirement requirements-chem.lock
	@touch $@
