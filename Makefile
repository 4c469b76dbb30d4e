# Everything runs in a virtual environment of its own, .venv, made on first use (with uv where it is on PATH).
# PYTHON=... chooses the interpreter, ARGS=... is passed on to the demo, to pytest and to the benches.

ARGS ?=
# The first that is new enough; a name on PATH can be a stub that does not run.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3 python; do \
    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
# Sources are compiled once, also where Python is told to write no bytecode: tests start hundreds of processes.
PYTEST := PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX=$(CURDIR)/build/pycache $(BIN)/python -m pytest
# Several processes for each core (tests/conftest.py), because many tests wait for others. The tests of a file
# share what it makes, such as the answers of all validators (--dist loadfile). Files with most tests come first, but not
# where servers are needed (--no-loadscope-reorder): there, the longest files, those of tests/acceptance, have few tests.
PARALLEL := -n auto --maxprocesses 8 --durations 25 --dist loadfile

.PHONY: help demo test test-all bars soak planted lint bench docs screenshots docs-site golden conformance package deb image sbom audit lock clean

help: ## show this list
	@awk -F ': .*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.made ## convert synthetic studies sent by C-STORE and through a folder (ARGS=--keep-running)
	@$(BIN)/dicom2fhir demo $(ARGS)

test: .venv/.made ## run the tests for each change: 3 minutes on two cores, no downloads
	$(PYTEST) $(PARALLEL) --servers none $(ARGS)

test-all: test ## run all tests except the bars; downloads and builds real FHIR servers
	$(BIN)/python -m tests.build_servers
	$(PYTEST) $(PARALLEL) --no-loadscope-reorder --servers only $(ARGS)

bars: .venv/.made ## test the guarantees under faults, in 12 minutes (ARGS="--seed 7")
	$(PYTEST) -m bar $(ARGS) tests/acceptance

soak: .venv/.made ## the long form of one bar (BAR=1), or of all
	$(PYTEST) -m bar --soak $(ARGS) tests/acceptance/test_bar_$(if $(BAR),$(shell printf %02d $(BAR)),*)_*.py

planted: .venv/.made ## plant reliability faults one by one; each must make its bar fail (takes long; ARGS="--only NAME")
	$(BIN)/python -m tests.planted $(ARGS)

lint: .venv/.made ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.made ## run the benchmarks and print tables (ARGS=--quick: small sizes)
	@set -e; for bench in startup mapping convert headers hostile store sealed backfill objects cluster memory receive deliver web nodes; do $(BIN)/python -m bench.$$bench $(ARGS); done

docs: .venv/.made ## regenerate the generated documents
	$(BIN)/python docs/make_docs.py

screenshots: .venv/.made ## take the pictures of the web page in docs/images again (Chromium and HAPI)
	$(BIN)/python -m pytest -q --screenshots docs/images tests/integration/test_web_browser_hapi.py -k pictures

docs-site: build/docs/.made ## build the documentation as a site in build/site; a dead link is an error
	build/docs/bin/mkdocs build --strict

golden: .venv/.made ## accept what studies become now: write the golden files again and show what changed
	@$(BIN)/python -m testdata.make_cases $(ARGS)
	@$(BIN)/python -m tests.data.make_mapping

conformance: .venv/.made ## run every FHIR validator over every golden case and write docs/conformance.md
	$(BIN)/python -m tests.conformance

package: .venv/.made build/tools/.made ## build wheel and sdist in dist/; install the wheel in an empty environment, by pipx and by uv, and run it
	rm -f dist/*.whl dist/*.tar.gz dist/*.deb
	$(BIN)/hatchling build --directory dist
	@$(call make_venv,build/package,requirements.lock)
	@set -e; if command -v uv >/dev/null; then install='uv pip install --python build/package/bin/python'; \
	else install='build/package/bin/python -m pip install --disable-pip-version-check'; fi; \
	$$install --quiet --no-deps dist/*.whl
	cd build && package/bin/dicom2fhir --version && package/bin/dicom2fhir demo
	tests/try_tool_installs.sh dist/*.whl build/tools/bin

deb: package ## build the Debian package in dist/ and, as root, install, use and purge it in a discarded copy of this system
	$(BIN)/python -m deb.build dist/*.whl
	@if [ "$$(id -u)" = 0 ]; then deb/try_package.sh dist/*.deb; else echo "not tried: needs root"; fi

image: ## as root, build the image with base images made from Debian's packages, measure it and run it
	@tests/try_image.sh

sbom: .venv/.made build/tools/.made ## write the bill of materials of this version (CycloneDX) to dist/
	@rm -rf build/sbom
	@$(call make_venv,build/sbom,requirements-extras.lock)
	@set -e; version=$$($(BIN)/python -c 'import dicom2fhir; print(dicom2fhir.__version__)'); \
	mkdir -p dist; sbom=dist/dicom2fhir-bridge-$$version.cdx.json; \
	sed "s/^dynamic = .*/version = \"$$version\"/" pyproject.toml >build/sbom/pyproject.toml; \
	build/tools/bin/cyclonedx-py environment --pyproject build/sbom/pyproject.toml --output-reproducible \
	    --output-file $$sbom build/sbom/bin/python; \
	echo "wrote $$sbom"

audit: .venv/.made build/tools/.made ## check the pinned versions for known vulnerabilities
	@$(BIN)/python -m tests.audit build/tools/bin/pip-audit

# of the image and the Debian package; Dask has to have the version of its cluster
EXTRAS := oauth otel postgres s3
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --no-emit-index-url --quiet

lock: ## pin the newest versions of all dependencies (needs uv)
	mkdir -p build
	$(COMPILE) --upgrade pyproject.toml --group dev --output-file requirements-dev.lock
	sed -E '/^[^ ]+==/!d; s/ *\\$$//' requirements-dev.lock >build/pins.txt
	$(COMPILE) pyproject.toml --constraint build/pins.txt --output-file requirements.lock
	$(COMPILE) pyproject.toml $(EXTRAS:%=--extra %) --constraint build/pins.txt --output-file requirements-extras.lock
	$(COMPILE) --upgrade --group tools --output-file requirements-tools.lock
	$(COMPILE) --upgrade --group docs --output-file requirements-docs.lock

clean: ## remove generated files
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call make_venv,FOLDER,LOCK) makes a virtual environment with what a lock file pins, checked by hash.
define make_venv
set -e; \
	python='$(PYTHON)'; \
	if [ -z "$$python" ]; then \
	    echo "Python 3.11 or newer is needed and none was found on PATH (Debian: apt-get install python3 python3-venv)." >&2; \
	    exit 1; \
	fi; \
	echo "making $(1) with $$($$python --version)" >&2; \
	rm -rf $(1); \
	if command -v uv >/dev/null; then \
	    uv venv --quiet --python "$$python" $(1); \
	    uv pip install --quiet --python $(1)/bin/python --require-hashes -r $(2); \
	else \
	    if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
	        echo "This Python cannot make virtual environments (Debian: apt-get install python3-venv)." >&2; \
	        exit 1; \
	    fi; \
	    $$python -m venv $(1); \
	    $(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(2); \
	fi
endef

.venv/.made: pyproject.toml requirements-dev.lock
	@$(call make_venv,.venv,requirements-dev.lock); \
	if command -v uv >/dev/null; then install='uv pip install --python $(BIN)/python'; \
	else install='$(BIN)/python -m pip install --disable-pip-version-check'; fi; \
	$$install --quiet --no-deps --no-build-isolation --editable .; \
	touch $@

build/docs/.made: requirements-docs.lock
	@$(call make_venv,build/docs,requirements-docs.lock); touch $@

build/tools/.made: requirements-tools.lock
	@$(call make_venv,build/tools,requirements-tools.lock); touch $@
