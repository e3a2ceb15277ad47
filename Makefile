# Works on a fresh machine with python3 (3.11+), pip and make. Everything lives in .venv.
PYTHON ?= python3
BIN := .venv/bin
RUN := runs/quickstart

.PHONY: run test check lint types docs snapshots uplot clean setup
.DEFAULT_GOAL := run

setup: .venv/installed

# torch first and exactly, so that no range pulls another one later. Where pip offers a CUDA build by default, a machine
# without a GPU saves gigabytes with: PIP_EXTRA_INDEX_URL set to PyTorch's CPU wheels before the first make.
.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tenfold needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

# The main job: real text -> trained, evaluated, reported model.
run: setup
	@test -e $(RUN)/campaign.toml || $(BIN)/tenfold init $(RUN) --example quickstart
	$(BIN)/tenfold run $(RUN)

# The tests, every process of theirs measured; fails too where the share of executed lines is below its floor.
# Three at a time on two cores: many of them wait for other processes.
test: setup
	mkdir -p .coverage && rm -f .coverage/*
	$(BIN)/coverage run -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 10
	$(BIN)/coverage combine --quiet && $(BIN)/coverage json --quiet -o .coverage/report.json
	$(BIN)/python -m tests.floors .coverage/report.json

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup
	$(BIN)/mypy

check: lint types test

# Writes the configuration reference from the schema and the page of errors from what each bad input really gives.
docs: setup
	sed '/^| what is wrong/,$$d' docs/errors.md > docs/errors.new
	$(BIN)/python -m tests.campaign.bad_inputs >> docs/errors.new
	mv docs/errors.new docs/errors.md
	sed '/^| input /,$$d' docs/odd_inputs.md > docs/odd_inputs.new
	$(BIN)/python -m tests.data.odd_inputs >> docs/odd_inputs.new
	mv docs/odd_inputs.new docs/odd_inputs.md
	$(BIN)/python -c 'from tenfold.config import render_reference; print(render_reference(), end="")' > docs/configuration.md
	$(BIN)/python -c 'from tenfold.ledger.contract import render_contract; print(render_contract(), end="")' > docs/ledger.md
	$(BIN)/tenfold metrics files docs/monitoring > /dev/null
	$(BIN)/python -m tests.planner.hardware.page
	$(BIN)/python -m tests.planner.codesign.page

# Writes the resolved configuration of each shipped example, which the tests compare with.
snapshots: setup
	$(BIN)/python -c 'import json, pathlib; from tenfold.config import *; \
	[pathlib.Path(f"tests/snapshots/{n}.json").write_text(json.dumps(parse_campaign(render_campaign(example_values(n), n), n).model_dump(mode="json"), indent=2, sort_keys=True) + "\n") for n in example_names()]'

# The chart library of the page, pinned by hash, with its licence. `npm` here fetches one file; nothing of it is run.
UPLOT := 1.6.32
UPLOT_SHA256 := 4b8a8191e425658e3ea8c8c1314b0fc679c861ee3a1af2b20c7b16ba50b5133d
UPLOT_HOME := src/tenfold/monitor/page/static/uplot
uplot:
	mkdir -p build && cd build && npm pack --silent uplot@$(UPLOT) && echo "$(UPLOT_SHA256)  uplot-$(UPLOT).tgz" | sha256sum --check
	tar -xzf build/uplot-$(UPLOT).tgz -C $(UPLOT_HOME) --strip-components 2 package/dist/uPlot.iife.min.js package/dist/uPlot.min.css
	tar -xzf build/uplot-$(UPLOT).tgz -C $(UPLOT_HOME) --strip-components 1 package/LICENSE

clean:
	rm -rf .venv runs build dist
