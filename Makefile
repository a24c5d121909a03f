# Everything a learner, a teacher or a developer runs. `make help` lists it.
# Each target sets up its own environment in .venv where there is none. On Windows, or without make, the README has
# the plain commands.

VENV ?= .venv
PYTHON ?= python3
# Options for pip, such as an index that carries PyTorch's small CPU build.
PIP_OPTIONS ?=
BIN := $(VENV)/bin
LEARNER := $(VENV)/.learner
DEVELOPER := $(VENV)/.developer

.DEFAULT_GOAL := help
.PHONY: help demo live lab progress check test test-full test-slow notebooks exercises slides site release grade hostile mutants benchmarks fuzz package constraints clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)

$(LEARNER): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(PIP_OPTIONS) -c constraints.txt -e '.[lab]'
	@touch $@

$(DEVELOPER): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(PIP_OPTIONS) -c constraints.txt -e '.[lab,test,instructor,site,deploy,language,encoder]'
	@touch $(LEARNER) $@

# JavaScript for slides and site, at the versions of package-lock.json.
WEB := node_modules/.package-lock.json

$(WEB): package.json package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

define WEB_IF_NPM
@if ! command -v npm >/dev/null; then echo "npm is missing: what needs its packages is not tested"; \
else $(MAKE) --no-print-directory $(WEB) || echo "npm's packages cannot be had: what needs them is not tested"; fi
endef

demo: $(LEARNER) ## distil a real teacher on MNIST: a table, an interval, a figure (about a minute)
	@$(BIN)/kdlib demo

live: $(LEARNER) ## the same, drawn while it trains, for a projector; space stops and goes on
	@$(BIN)/kdlib demo --live

lab: $(LEARNER) ## open JupyterLab in your own copies of the lessons
	@$(BIN)/python tools/lab.py

progress: $(LEARNER) ## what you have done of lessons, self-tests and exercises, and what is left
	@$(BIN)/kdlib progress

check: $(LEARNER) ## does this machine work? OK or FAIL a line
	@$(BIN)/kdlib check

test: $(DEVELOPER) ## run everything: library, lessons, guards (some minutes)
	$(WEB_IF_NPM)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python tools/test.py

test-full: $(DEVELOPER) ## run what needs full MNIST and CIFAR-10 (KDLIB_DATA)
	$(BIN)/python tools/test.py --full

test-slow: $(DEVELOPER) ## grade a class of a hundred, every solution twelve times; slides at a second size, a thousand kills and fits (an hour)
	$(WEB_IF_NPM)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -q

notebooks: $(DEVELOPER) ## execute the lessons again, repeatably
	$(BIN)/python tools/notebooks.py

exercises: $(DEVELOPER) ## make exercises/ from solutions/
	$(BIN)/python tools/exercises.py

slides: $(DEVELOPER) $(WEB) ## make a deck of slides from every lesson, in build/slides (needs npm)
	$(BIN)/python tools/slides.py $(OPTIONS)

site: $(DEVELOPER) $(WEB) ## make the course's site from stored outputs, in build/site (two minutes)
	$(BIN)/python tools/site.py

# Options for `make slides`, `make release` and `make grade`, such as --pdf, "--overlay private" or
# "--due 2026-12-01T23:59 --late 0.1".
OPTIONS ?=
COURSE ?= course

release: $(DEVELOPER) ## NAME=ex01: an assignment's folder and zip for students, in release/
	@$(BIN)/python -m grading release $(or $(NAME),$(error which assignment? make release NAME=ex01)) $(OPTIONS)

grade: $(DEVELOPER) ## NAME=ex01 SUBMISSIONS=folder [ROSTER=file]: grade what was handed in (INSTRUCTORS.md)
	@$(BIN)/python -m grading grade $(or $(NAME),$(error which assignment? make grade NAME=ex01 …)) \
	  "$(or $(SUBMISSIONS),$(error where are the hand-ins? make grade … SUBMISSIONS=folder))" --course "$(COURSE)" \
	  $(if $(ROSTER),--roster "$(ROSTER)") $(OPTIONS)

hostile: $(DEVELOPER) ## show what the hostile hand-ins of the tests do to naive grading (some minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q -m naive tests/test_grading.py

mutants: $(DEVELOPER) ## plant faults in the library, show which test or lesson catches each
	$(BIN)/python tools/mutants.py

# An environment of its own, for other libraries. KD_Lib pins packages of 2021, so it comes without its dependencies.
BENCH := build/benchmarks
BENCHMARKS := $(BENCH)/.installed

$(BENCHMARKS): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet $(PIP_OPTIONS) -c constraints.txt -e '.[benchmarks]'
	-$(BENCH)/bin/python -m pip install --quiet $(PIP_OPTIONS) --no-deps 'KD-Lib==0.0.32'
	@touch $@

benchmarks: $(BENCHMARKS) ## distillation here, elsewhere and at its floor, in turn (30 minutes; OPTIONS=--quick: 3)
	$(BENCH)/bin/python benchmarks/loops.py $(OPTIONS)

fuzz: $(DEVELOPER) ## damage every kind of file that is read, OPTIONS="--inputs 100000 model" (a minute for a thousand each)
	OMP_NUM_THREADS=1 $(BIN)/python tools/fuzz.py $(OPTIONS)

package: $(DEVELOPER) ## build wheel and source archive, try each in an empty environment (docs/support.md)
	$(BIN)/python tools/package.py $(OPTIONS)

constraints: ## compile constraints.txt again (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade --quiet \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header -o constraints.txt

clean: ## remove the environments and caches, keep your copies in my/
	rm -rf $(VENV) node_modules build dist *.egg-info .pytest_cache .ruff_cache
