# Two commands: `make run` and `make test`. Both install what they need into .venv first.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONUNBUFFERED := 1
# A run starts this package in dozens of processes: they read it compiled, also where others are not to be.
unexport PYTHONDONTWRITEBYTECODE

# A target has one line of help behind `##`: `make help` prints it.
TARGETS := $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' $(firstword $(MAKEFILE_LIST)))
.PHONY: $(TARGETS)

run: install ## Install, then run the default experiment: about ten minutes on two cores
	python -m diffaccel run

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: .venv/installed ## Install the package and its pinned dependencies into .venv

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	pip install --disable-pip-version-check --quiet --requirement requirements.lock
	pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	touch $@

test: install ## Run the tests: no GPU, no Slurm, about a quarter of an hour
	pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 30 -m "not timing and not gpu and not slurm and not long"
	pytest -m "timing and not gpu and not slurm" $$(grep --recursive --files-with-matches --include='*.py' "mark.timing" tests)

test-long: install ## Run the tests that take long: half a minute or more each, and all layouts with all samplers
	pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 10 -m long

# Needs Slurm's programs: docs/how-to/run-on-a-cluster.md.
test-slurm: install ## Run the tests on a Slurm that they start themselves, as root
	pytest tests/slurm

lint: install ## Check formatting, types, rules and the order of imports
	ruff format --check .
	ruff check .
	mypy
	snakefmt --check Snakefile rules
	snakemake --lint
	lint-imports --no-logo

format: install ## Format the code and fix what can be fixed
	ruff format .
	ruff check --fix .
	snakefmt Snakefile rules

bench: install ## Measure the grid of the default experiment and replay the search on it
	python -m benchmarks.search live

# Its page: docs/experiments/search-benchmark.md.
bench-search: install ## Replay the search and others on the recorded tables, without a GPU
	python -m benchmarks.search replay
	python -m benchmarks.search report

# `record --minutes 9` stops in time and goes on later.
bench-tables: install ## Record these tables, on a machine with a GPU
	python -m benchmarks.search record
	python -m benchmarks.search collect

# Minutes of a GPU. What was measured is kept in benchmarks/gpu.
bench-gpu: install ## Time networks of full size and run the grid of the embedded models, on a GPU
	python -m benchmarks.gpu speed
	python -m benchmarks.gpu speed --experiment resources/experiments/bench-lossless.yaml
	python -m benchmarks.gpu grid
	python -m benchmarks.gpu report

# A dry run of the whole grid; minutes of a GPU on full-size models.
bench-overhead: install ## Measure what the workflow itself costs
	python -m benchmarks.overhead dry-run
	python -m benchmarks.overhead run

# Twenty minutes of a core. Goes on where it was stopped.
faults: install ## Inject hundreds of faults, each with a run before and after it
	python -m tests.faults --lanes $$(nproc)

pages: install ## Write the pages that are made from measurements
	python -m benchmarks.gpu report
	python -m benchmarks.few_steps
	python -m benchmarks.metrics report
	python -m tests.docs.rooms
	python -m tests.docs.metrics
	python -m tests.docs.samplers
	python -m tests.docs.together

# From what `make run` left; those of docs/reference/report.md are taken with chromium.
SHOWN := mini-SD1.5_DPM-Solver++_20
pictures: install ## Write the pictures of the README and of the report page, after `make run`
	diffaccel picture "$(SHOWN)_deepcache_bound90" "$(SHOWN)_deepcache+tgate_bound90" --out docs/images/pairs.png
	python -m tests.browser.pictures results/cpu/report.html docs/images/report

docs: .venv/docs ## Build the documentation's site in build/site
	mkdocs build --strict

.venv/docs: .venv/installed
	pip install --disable-pip-version-check --quiet --constraint requirements.lock --no-build-isolation --editable ".[docs]"
	touch $@

quality: install ## Measure how good the embedded models are
	python -m diffaccel.plugins.models.mini.quality

# As exact pins for pip and for conda. The packages of the site are not among them.
lock: ## Pin the newest versions that pyproject.toml allows
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --disable-pip-version-check --quiet --editable .[dev,slurm]
	build/lock/bin/python envs/lock.py
	rm -rf build/lock

clean: ## Remove .venv, results/cpu and .snakemake
	rm -rf .venv results/cpu .snakemake
