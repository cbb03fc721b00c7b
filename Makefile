# `make demo` and `make test` are all one needs on a machine with Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TARGET ?= cpu
ROUNDS ?= 3
KILLS ?= 50
STOPS ?= 40
EXAMPLES ?= 1000
SEED ?=
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal
FAKE_GCS_VERSION := v1.56.1
FAKE_GCS_SERVER := $(CURDIR)/.cache/fake-gcs-server-$(FAKE_GCS_VERSION)/fake-gcs-server

.PHONY: help demo serve test check test-newest test-lowest test-fast test-slow test-postgresql test-browser test-gcs test-chaos test-fuzz test-namespaces test-neighbours test-clients test-accuracy test-openvino test-ray test-wheel test-image test-all format models screenshots bench bench-page image sbom lock clean

##@ Use

# A target's line says what it does behind `##`, in 60 characters; a line with `##@` begins a group.
help: ## List the commands
	@awk -F ':.*## ' '/^##@ / { print before substr($$0, 5); before = "\n" } \
	  /^[a-z-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/installed ## Run the documentation's two examples end to end
	$(BIN)/vertex-emulator demo

serve: $(VENV)/installed ## Start the server
	$(BIN)/vertex-emulator serve

image: ## Build the container image; TARGET=slim or cuda for another
	docker build --target $(TARGET) --tag vertex-batch-emulator:$(TARGET) $$(.ci/image-labels) .

sbom: ## Print what an image holds (CycloneDX); TARGET=slim
	@docker run --rm --entrypoint cat vertex-batch-emulator:$(TARGET) /opt/emulator/sbom.cdx.json

##@ Test

test: check ## Lint, types, import contracts and the fast tests
	$(BIN)/python --version
	$(PYTEST) -m "not slow and not clients and not browser and not chaos"

check: $(VENV)/installed-dev ## Lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-fast: $(VENV)/installed-dev ## The fast tests only
	$(BIN)/python --version
	$(PYTEST) -m "not slow and not clients and not browser and not chaos"

##@ Slower tiers, each by itself

test-newest: ## The fast tests on the newest Python of this machine
	@echo "Newest Python here: $$(.ci/newest-python)"
	$(MAKE) PYTHON="$$(.ci/newest-python)" VENV=$(VENV)-newest test-fast

test-lowest: $(VENV)-lowest/installed ## The demo and tests with the lowest versions allowed
	folder=$$(mktemp -d) && $(VENV)-lowest/bin/vertex-emulator demo --data-dir "$$folder" && rm -rf "$$folder"
	$(VENV)-lowest/bin/python -m pytest -W default --disable-warnings -n auto --dist worksteal \
	  -m "not slow and not clients and not browser and not chaos" tests/api tests/cli tests/service tests/execution tests/testing tests/inference

test-slow: $(VENV)/installed-dev ## The slow tests only
	$(PYTEST) -m "slow and not gcs_server and not browser and not chaos"

test-clients: $(VENV)/installed-dev ## Every language's client; needs the toolchains
	$(BIN)/python -m pytest -m clients

test-postgresql: $(VENV)/installed-dev ## Database, service, control, execution on PostgreSQL
	.ci/with-postgresql $(PYTEST) -m "not slow" tests/database tests/service tests/control tests/execution

test-browser: $(VENV)/installed-dev ## Tests in Chromium, which it installs (Debian, root)
	.ci/with-chromium $(BIN)/python -m pytest -m browser tests/browser

test-gcs: $(VENV)/installed-dev $(FAKE_GCS_SERVER) ## Tests against fake-gcs-server; builds it with Go
	EMULATOR_FAKE_GCS_SERVER=$(FAKE_GCS_SERVER) $(PYTEST) -m gcs_server

test-chaos: $(VENV)/installed-dev $(FAKE_GCS_SERVER) ## Kill servers in jobs; KILLS=1000 STOPS=200 SEED=7
	EMULATOR_CHAOS_KILLS=$(KILLS) EMULATOR_CHAOS_STOPS=$(STOPS) EMULATOR_CHAOS_SEED=$(SEED) EMULATOR_FAKE_GCS_SERVER=$(FAKE_GCS_SERVER) \
	  .ci/with-postgresql $(BIN)/python -m pytest -s -m chaos tests/chaos

test-fuzz: $(VENV)/installed-dev ## Hostile input, new each time; EXAMPLES=1000 per test
	EMULATOR_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -m fuzz tests/fuzz

test-namespaces: $(VENV)/installed-dev ## Alias mode between network namespaces (Linux, root)
	.ci/with-namespaces $(BIN)/python -m pytest tests/alias

test-neighbours: $(VENV)/installed-dev ## Airflow and Kubeflow in alias mode (Linux, root); 1.7 GB
	.ci/with-namespaces $(BIN)/python -m pytest -m neighbours tests/neighbours

test-accuracy: $(VENV)-peers/installed ## Heads, tracker, metrics next to other people's; gigabytes
	$(VENV)-peers/bin/python -m pytest -rP -m accuracy tests/accuracy

test-openvino: $(VENV)-openvino/installed ## The models on OpenVINO
	$(VENV)-openvino/bin/python -m pytest tests/inference/test_providers.py tests/inference/test_object_tracking.py

test-ray: $(VENV)-ray/installed ## Executor and jobs on a Ray cluster on this machine
	$(VENV)-ray/bin/python -m pytest -m ray tests/execution tests/docs

test-wheel: $(VENV)/installed-dev ## The built wheel in fresh environments, the README's way
	EMULATOR_TEST_WHEEL=1 $(BIN)/python -m pytest tests/wheel

test-image: $(VENV)/installed-dev ## The container images, built and run (Linux, root)
	.ci/with-images $(BIN)/python -m pytest tests/container

test-all: test test-slow test-postgresql test-browser test-gcs test-chaos test-namespaces test-clients test-wheel test-image ## Every tier but those for fuzz, lowest, newest, Ray, peers

##@ Maintain

format: $(VENV)/installed-dev ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

models: $(VENV)/installed-train ## Train, evaluate, export the bundled models; hours
	for model in models/*/; do \
	  for step in train export evaluate; do $(BIN)/python $$model$$step.py || exit 1; done; \
	done

screenshots: $(VENV)/installed-dev ## Renew the pictures of docs/console.md with Chromium
	.ci/with-chromium $(BIN)/python -m tests.browser.screenshots

bench: $(VENV)/installed-dev ## Run every benchmark, an hour; ROUNDS=5 for more rounds
	$(BIN)/python benchmarks/run.py --rounds $(ROUNDS)

bench-page: $(VENV)/installed-dev ## Put what `make bench` measured into docs/performance.md
	$(BIN)/python benchmarks/page.py

lock: $(VENV)/installed-dev ## Renew the locks of requirements/ (versions and hashes)
	.ci/lock $(BIN)/uv

clean: ## Remove the environments and caches
	rm -rf $(VENV) $(VENV)-peers $(VENV)-peers-bench $(VENV)-moto $(VENV)-ray $(VENV)-newest $(VENV)-lowest .cache .clients-cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version). Name another: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "The venv module is missing; on Debian: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

$(VENV)/installed: pyproject.toml $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# By the lock, so that every run has the same versions: `make lock` renews it. uv, which it names too, takes seconds where
# pip takes a minute, and downloads nothing twice; but it does not read pip's settings, so pip follows where it fails.
$(VENV)/installed-dev: pyproject.toml requirements/dev.txt $(VENV)/bin/python
	sed -n '/^uv==/,/[^\\]$$/p' requirements/dev.txt >$(VENV)/uv.txt
	$(BIN)/python -m pip install --quiet --require-hashes --requirement $(VENV)/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements/dev.txt || \
	  $(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $(VENV)/installed $@

# The lowest version of each dependency and extra that pyproject.toml allows; the tests' own packages are new.
$(VENV)-lowest/installed: pyproject.toml $(VENV)/installed-dev
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-lowest
	VIRTUAL_ENV=$(VENV)-lowest $(BIN)/uv pip install --quiet --resolution lowest-direct --editable ".[av,gcs,postgresql]"
	VIRTUAL_ENV=$(VENV)-lowest $(BIN)/uv pip freeze --quiet --exclude-editable >$(VENV)-lowest/versions.txt
	VIRTUAL_ENV=$(VENV)-lowest $(BIN)/uv pip install --quiet --constraint $(VENV)-lowest/versions.txt --group test
	@touch $@

# Frameworks of several gigabytes, which must not decide what the other tests see. `trackers` brings opencv-python, which writes
# the same files as opencv-python-headless and needs the libraries of a desktop; the one that the server uses stays.
$(VENV)-peers/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(VENV)-peers/bin/python -m pip install --quiet --editable . --group accuracy
	$(VENV)-peers/bin/python -m pip uninstall --quiet --yes opencv-python opencv-python-headless
	$(VENV)-peers/bin/python -m pip install --quiet opencv-python-headless
	@touch $@

# The versions of the other tiers, with Ray besides.
$(VENV)-ray/installed: pyproject.toml $(VENV)/installed-dev
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-ray
	$(BIN)/uv pip freeze --quiet --python $(BIN)/python --exclude-editable >$(VENV)-ray/versions.txt
	$(BIN)/uv pip install --quiet --python $(VENV)-ray/bin/python --constraint $(VENV)-ray/versions.txt --editable ".[ray]" --group test
	@touch $@

# onnxruntime and onnxruntime-openvino are the same package to Python, so one of them has to go first.
$(VENV)-openvino/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-openvino
	$(VENV)-openvino/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(VENV)-openvino/bin/python -m pip install --quiet --editable . --group test
	$(VENV)-openvino/bin/python -m pip uninstall --quiet --yes onnxruntime
	$(VENV)-openvino/bin/python -m pip install --quiet onnxruntime-openvino
	@touch $@

$(VENV)/installed-train: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group train
	@touch $@

$(FAKE_GCS_SERVER):
	@command -v go >/dev/null || { echo "The Go toolchain is missing, which builds fake-gcs-server; on Debian: apt-get install golang"; exit 1; }
	GOBIN=$(@D) go install github.com/fsouza/fake-gcs-server@$(FAKE_GCS_VERSION)
