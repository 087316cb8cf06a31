# Everything runs in .venv, made from requirements.lock.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# which demo surfaces: brick by default; e.g. make demo CATEGORIES=brick,grass,gravel
CATEGORIES ?=
# how many processes test; each computes with one thread
JOBS ?= 2
# TORCH=cpu: torch without CUDA, about 3 instead of 7.5 GB in all, where its index can be reached
TORCH ?=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: help quick check demo docs image lint lock peers server test venv

help: # what can be made
	@sed -n 's/^\([a-z]*\):.* # \(.*\)/\1	\2/p' Makefile | expand -t 10

venv: $(VENV)/.installed # what everything runs in

$(VENV)/.installed: requirements.lock requirements-station.lock pyproject.toml
	@echo 'installing into $(VENV): $(if $(TORCH),3,7.5) GB, some minutes in which nothing is printed'
	$(PYTHON) -m venv $(VENV)
ifeq ($(TORCH),cpu)
	grep -vE '^(nvidia-|cuda-|triton==)' requirements.lock | sed -E 's/^(torch|torchvision)==.*/&+cpu/' > $(VENV)/cpu.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --extra-index-url $(TORCH_INDEX) --requirement $(VENV)/cpu.lock
else
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
endif
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-station.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

quick: venv # one trained verdict, in a minute
	$(BIN)/ndpnet quick

# without a target `exp run` would remove what other categories have made
demo: venv # train, evaluate and report on the demo surfaces
	@test -d data || $(BIN)/ndpnet demo-data data
ifeq ($(CATEGORIES),)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro
else
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc exp run evaluate --set-param 'ndpnet/params.yaml:categories=[$(CATEGORIES)]'
endif
	@for table in build/*/evaluation/table.txt; do echo; cat $$table; echo "report: $$(dirname $$table)/report.html"; done

test: venv # all tests, on JOBS processes
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

check: lint # style, types and unit tests: for the inner loop
	$(BIN)/python -m pytest --numprocesses $(JOBS) tests/unit

lint: venv .venv-docs/.installed # style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	.venv-docs/bin/mypy --python-executable $(BIN)/python

# the documentation as a site, build/site/index.html: read without a network; links, anchors and names are checked.
# In an environment of its own: requirements.lock belongs to the identity of models, pages and types do not
docs: .venv-docs/.installed # these pages as a site, build/site/index.html
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --clean

.venv-docs/.installed: requirements-docs.lock
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --disable-pip-version-check --requirement requirements-docs.lock
	touch $@

# MLflow with PostgreSQL (else sqlite) and an S3 store, on this machine; Ctrl-C ends it
server: venv # MLflow with PostgreSQL and S3 on this machine
	$(BIN)/python deploy/server.py

# the container image of this commit: TARGET=serve for the one that only serves models; IMAGE=registry.example.com/ndpnet
# and BASE=, DOCKER_BUILD='--build-arg NAME=VALUE' for other places to take things from: docs/image.md
IMAGE ?= ndpnet
TARGET ?= train
BASE ?= python:3.11-slim-bookworm
image: # the container image of this commit, IMAGE=NAME TARGET=train|serve|station
	@deploy/image/build.sh '$(IMAGE)' '$(TARGET)' '$(BASE)' $(DOCKER_BUILD)

# the environment of other people's models, which `ndpnet benchmark` compares with: docs/peers.md
peers: .venv-peers/.installed # the environment of the models to compare with

.venv-peers/.installed: requirements-peers.lock
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --requirement requirements-peers.lock
	touch $@

# resolve the bounds of pyproject.toml anew, in empty environments
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --upgrade setuptools
	build/lock/bin/pip install --quiet '.[dev,export,pipeline,server]'
	(head -1 requirements.lock; build/lock/bin/pip freeze --all --exclude ndpnet --exclude pip) > requirements.lock.new
	mv requirements.lock.new requirements.lock
	build/lock/bin/pip install --quiet --constraint requirements.lock '.[station,browser]'
	(head -1 requirements-station.lock; build/lock/bin/pip freeze --all --exclude ndpnet --exclude pip \
	  | grep -vxFf requirements.lock) > requirements-station.lock.new
	mv requirements-station.lock.new requirements-station.lock
	build/lock/bin/pip install --quiet --upgrade 'pip>=25.1'
	rm -rf build/lock-docs && $(PYTHON) -m venv build/lock-docs
	build/lock/bin/pip --python build/lock-docs/bin/python install --quiet --group docs
	(head -1 requirements-docs.lock; build/lock/bin/pip --python build/lock-docs/bin/python freeze) > requirements-docs.lock.new
	mv requirements-docs.lock.new requirements-docs.lock
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	$(PYTHON) -c "import tomllib; \
	  print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['peers'], sep='\n')" \
	  > build/lock/bounds.txt
	build/lock/bin/pip install --quiet --requirement build/lock/bounds.txt
	(head -1 requirements-peers.lock; build/lock/bin/pip freeze --all --exclude pip) > requirements-peers.lock.new
	mv requirements-peers.lock.new requirements-peers.lock
