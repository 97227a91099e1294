# make demo: a virtual environment with everything in it, and the flagship run.  make test: the tests.  make lint: ruff, mypy.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PLUGINS = $(patsubst %/pyproject.toml,-e %,$(wildcard plugins/*/pyproject.toml))
# One thread for each test process: two of them share two cores.
TEST_ENV = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo install install-test test test-slow lint benchmark clean

demo: install
	$(BIN)/kempeframe run specs/strong_collapse.toml

install: $(VENV)/installed
install-test: $(VENV)/installed-test

$(VENV)/installed: pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . $(PLUGINS)
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

test: install-test
	$(TEST_ENV) $(BIN)/python -m pytest -m "not slow" -n 2

test-slow: install-test
	$(TEST_ENV) $(BIN)/python -m pytest -m slow -n 2

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/mypy kempeframe $(patsubst %/__init__.py,%,$(wildcard plugins/*/kempeframe_*/__init__.py))

benchmark: install-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[benchmark]'
	$(BIN)/python tools/benchmark_spine.py
	$(BIN)/python tools/benchmark_scale.py
	$(BIN)/python tools/benchmark_training.py
	$(BIN)/python tools/benchmark_transformer.py
	$(BIN)/python tools/benchmark_flavors_of_margin.py
	$(BIN)/python tools/benchmark_repeated_examples.py
	$(BIN)/python tools/benchmark_pilaf.py

clean:
	rm -rf $(VENV) runs
