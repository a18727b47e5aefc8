# make demo   sets up and runs the demonstration
# make test   sets up and runs everything that CI runs
# make slow   the tests that take longer, those of other libraries, and the examples that start clusters
# make bench  the benchmarks
# make chaos  real faults on every engine, of whole hosts, and a thousand jobs with them
# make pictures  the pictures of the pages, by running their examples
# make mutants  small random faults in the package, and which of them the tests find
# make reproduce [QUICK=1]  the paper's experiments: tables, figures and their page in results/

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1
# Tests start hundreds of processes, each of which would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test pytest slow bench chaos mutants reproduce pictures docs lint wheel clean

demo: $(VENV)/demo.stamp
	$(BIN)/python -m examples.demo

test: $(VENV)/dev.stamp
	$(MAKE) -j3 lint docs pytest

pytest: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 4  # on two cores: the tests of engines mostly wait

slow: $(VENV)/dev.stamp $(VENV)/peers.stamp $(VENV)/executors.stamp  # and with mpiexec also mpi4py's
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks

chaos: $(VENV)/dev.stamp
	$(BIN)/python -m chaos faults
	$(BIN)/python -m chaos hosts
	$(BIN)/python -m chaos soak

mutants: $(VENV)/dev.stamp
	$(BIN)/python -m mutants

reproduce: $(VENV)/experiments.stamp
	$(BIN)/python -m experiments all $(if $(QUICK),--quick)
	$(BIN)/python -m experiments surrogates $(if $(QUICK),--quick)
	$(BIN)/python -m experiments mixtures $(if $(QUICK),--quick)
	$(BIN)/python -m experiments honest $(if $(QUICK),--quick)
	$(BIN)/python -m experiments sweeps $(if $(QUICK),--quick)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pictures: $(VENV)/dev.stamp
	$(BIN)/python docs/pictures.py

docs: $(VENV)/dev.stamp
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

wheel: $(VENV)/dev.stamp
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/check-wheel-contents dist/*.whl

$(VENV)/%.stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) dist docs/_build
