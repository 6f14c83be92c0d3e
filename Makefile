# make demo    two shapes, their Sinkhorn divergence and a figure, demo.png
# make test    the tests, one a core
# make test-slow
#              those that take long: several processes, threads and forks, a thousand solves
# make hunt    properties on EXAMPLES clouds each, others every time
# make lint    style and types: ruff and mypy
# make docs    the site, in docs/_build/html; runs the tutorials, some minutes
# make check-cuda
#              kernels for GPUs, compiled without one: 250 MB of compilers, and two minutes
# make test-oldest
#              the tests with the oldest versions that are taken, on Python 3.10 or 3.11, in .venv-oldest: 3 GB on Linux;
#              make test-oldest TESTS="tests/engine tests/solver" PYTHON=python3.10 runs some
# make package the source archive and the wheel, in dist/, installed and used where there is no checkout
# make env     the environment that all use, in .venv; remade when the requirements change
# make clean   remove everything that make has made
#
# All paths are relative: the checkout may lie in a folder with blanks in its name.

PYTHON ?= python3
RUN := .venv/bin/python
STAMP := .venv/installed
EXAMPLES ?= 1000
OLDEST := .venv-oldest/bin/python
TESTS ?=

.PHONY: demo test test-slow hunt test-oldest docs check-cuda lint package env clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	$(RUN) -m geomsink demo --progress --out demo.png

test: $(STAMP)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 8 --dist worksteal -m "not slow"

test-slow: $(STAMP)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 8 --dist worksteal -m slow tests

hunt: $(STAMP)
	GEOMSINK_EXAMPLES=$(EXAMPLES) OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 8 --dist worksteal tests/properties

test-oldest: .venv-oldest/installed
	OMP_NUM_THREADS=1 $(OLDEST) -m pytest -n auto --maxprocesses 8 --dist worksteal $(TESTS)

.venv-oldest/installed: pyproject.toml constraints-oldest.txt
	test -x $(OLDEST) || $(PYTHON) -m venv .venv-oldest
	$(OLDEST) -m pip install -c constraints-oldest.txt -e '.[test,shapes,scans,plot,cli,tensorboard,digits]'
	@touch $@

package:
	PYTHON=$(PYTHON) .ci/package

docs: .venv/writers
	rm -rf docs/generated/api docs/generated/results
	OMP_WAIT_POLICY=passive $(RUN) -m sphinx -W --keep-going -b html docs docs/_build/html

.venv/writers: $(STAMP)
	$(RUN) -m pip install -c constraints.txt -e '.[docs]'
	@touch $@

check-cuda: .venv/compilers
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 8 --dist worksteal \
	    tests/engine/test_cuda_kernels.py tests/engine/test_triton_kernels.py tests/engine/test_tiles.py

.venv/compilers: $(STAMP)
	$(RUN) -m pip install -c constraints.txt -e '.[cuda-check]'
	@touch $@

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(RUN) -m mypy tests/divergences/test_kinds.py

env: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "geomsink needs Python 3.10 or later; choose one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$(PYTHON) cannot make environments: install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || \
	    echo "No C++ compiler found: large clouds will be slow (Debian, Ubuntu: apt install g++)" >&2
	test -x $(RUN) || $(PYTHON) -m venv .venv
	$(RUN) -m pip install -c constraints.txt -e '.[test,lint,shapes,scans,plot,cli,digits]'
	@touch $@

clean:
	rm -rf .venv .venv-oldest demo.png docs/_build docs/generated build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find geomsink tests -name __pycache__ -type d -prune -exec rm -rf {} +
