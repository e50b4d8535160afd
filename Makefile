# Two commands: `make run` and `make test`. Both install what they need into .venv first.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONUNBUFFERED := 1
# A run starts this package in dozens of processes: they read it compiled, also where others are not to be.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run install test test-slurm lint format bench bench-tables bench-search bench-gpu bench-overhead faults docs pictures quality lock clean

run: install
	python -m diffaccel run

install: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	pip install --disable-pip-version-check --quiet --requirement requirements.lock
	pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	touch $@

test: install
	pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 30 -m "not timing and not gpu and not slurm"
	pytest -m "timing and not gpu and not slurm"

# As root, with Slurm's programs installed (docs/how-to/run-on-a-cluster.md): starts a Slurm of its own.
test-slurm: install
	pytest tests/slurm

lint: install
	ruff format --check .
	ruff check .
	mypy
	snakefmt --check Snakefile rules
	snakemake --lint
	lint-imports --no-logo

format: install
	ruff format .
	ruff check --fix .
	snakefmt Snakefile rules

# The default experiment's grid measured here, and the search replayed on that.
bench: install
	python -m benchmarks.search live

# The search and its rivals on measured tables, without a GPU: docs/experiments/search-benchmark.md.
bench-search: install
	python -m benchmarks.search replay
	python -m benchmarks.search report

# On a machine with a GPU: makes these tables. `record --minutes 9` stops in time and goes on later.
bench-tables: install
	python -m benchmarks.search record
	python -m benchmarks.search collect

# On a machine with a GPU: minutes of it. What was measured is kept in benchmarks/gpu.
bench-gpu: install
	python -m benchmarks.gpu speed
	python -m benchmarks.gpu speed --experiment resources/experiments/bench-lossless.yaml
	python -m benchmarks.gpu grid
	python -m benchmarks.gpu report

# What the workflow itself costs: a dry run of the whole grid; minutes of a GPU on full-size models.
bench-overhead: install
	python -m benchmarks.overhead dry-run
	python -m benchmarks.overhead run

# Hundreds of faults, each with a run before and after it: twenty minutes of a core. Goes on where it was stopped.
faults: install
	python -m tests.faults --lanes $$(nproc)

# The pages that are made from measurements.
docs: install
	python -m benchmarks.gpu report

# Those of the README and docs/reference/report.md, from what `make run` left; chromium takes the latter.
SHOWN := mini-SD1.5_DPM-Solver++_20
pictures: install
	diffaccel picture "$(SHOWN)_deepcache_bound90" "$(SHOWN)_deepcache+tgate_bound90" --out docs/images/pairs.png
	diffaccel report --parts
	cp "results/cpu/report/$(SHOWN).svg" docs/images/frontier.svg
	python -m tests.browser.pictures results/cpu/report.html docs/images/report

quality: install
	python -m diffaccel.plugins.models.mini.quality

# Newest versions that pyproject.toml allows, as exact pins for pip and for conda.
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --disable-pip-version-check --quiet --editable .[dev,slurm]
	build/lock/bin/python envs/lock.py
	rm -rf build/lock

clean:
	rm -rf .venv results/cpu .snakemake
