# The two commands of the README do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DOCS := $(VENV)/.installed-docs

PYTEST_ARGS ?=

# The numeric tests run once for each of these and each number of threads; "own" is what the machine has.
CPUS := AVX2 AVX512 own
THREADS := 1 2

.PHONY: demo test test-slow test-cpus test-install train-gpu lint types docs check install clean help

help:
	@echo "make demo       matte the sample clip and say where to look"
	@echo "make test       lint, types and tests"
	@echo "make test-slow  the tests that take minutes"
	@echo "make docs       the documentation site, in out/docs"
	@echo "make test-cpus  the numeric tests as on CPUs with AVX2, with AVX-512 and as this one, with 1 and 2 threads"
	@echo "make test-install  build the wheel, install it into an empty environment, matte the sample; TORCH='torch==...'"
	@echo "make train-gpu  train on one GPU within 9 minutes, from DATA=train.zip into OUT=runs/gpu"
	@echo "make install    only the environment in $(VENV)"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/python pipelines/demo.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy
	$(BIN)/mypy tests

test: lint types
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

# All combinations run, also after one that fails. oneDNN, MKL and PyTorch's own kernels each take their limit from the
# environment; what a CPU lacks, none uses.
test-cpus: $(INSTALLED)
	@failed=; for cpu in $(CPUS); do for threads in $(THREADS); do \
	  case $$cpu in \
	    AVX2) limit="ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2";; \
	    AVX512) limit="ONEDNN_MAX_CPU_ISA=AVX512_CORE ATEN_CPU_CAPABILITY=avx512 MKL_ENABLE_INSTRUCTIONS=AVX512";; \
	    *) limit=;; \
	  esac; \
	  echo "== numeric tests: $$cpu, threads: $$threads"; \
	  env $$limit OMP_WAIT_POLICY=passive OMP_NUM_THREADS=$$threads MKL_NUM_THREADS=$$threads $(BIN)/python -m pytest -q -m "numeric and not slow" \
	    $(PYTEST_ARGS) || failed="$$failed $$cpu/$$threads"; \
	done; done; \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

# A few GB are installed into a temporary folder and removed again; TORCH names another build of PyTorch.
test-install:
	$(PYTHON) pipelines/tools/try_install.py $(foreach build,$(TORCH),--torch $(build)) $(TRY_INSTALL_ARGS)

# One GPU, lent for minutes: 330 and 190 seconds, start-up and last save included. `benchmark.py train` for the profile alone.
DATA := train.zip
OUT := runs/gpu
TRAIN_ARGS :=

train-gpu: $(INSTALLED)
	$(BIN)/mam-video train lite-segmenter-gpu --set data=$(DATA) --set out=$(OUT)/segmenter $(TRAIN_ARGS)
	$(BIN)/mam-video train lite-matte-gpu --set data=$(DATA) --set out=$(OUT)/matte \
	  --set segmenter=$(OUT)/segmenter/average.safetensors $(TRAIN_ARGS)

$(DOCS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

docs: $(DOCS)
	rm -rf out/docs docs/generated
	$(BIN)/python -m sphinx --quiet --fail-on-warning --fresh-env --builder html docs out/docs
	$(BIN)/python docs/check_site.py out/docs
	@echo "the site begins at out/docs/index.html"

clean:
	rm -rf $(VENV) build *.egg-info out docs/generated
