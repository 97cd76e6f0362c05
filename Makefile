# `make demo` and `make test` are all that a fresh machine needs: python3 >= 3.11 with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CHROMIUM := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

TOOLS := $(CURDIR)/.build/prometheus/usr/bin

.PHONY: help demo test test-fast check faults demo-faults compose-test bench simulate lock browser kafka prometheus clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/python: 
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Penstock needs Python 3.11 or newer")'
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) && touch $@

$(VENV)/server: $(VENV)/python requirements/server.lock pyproject.toml
	@echo "installing what requirements/server.lock names (once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/server.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: $(VENV)/server requirements/dev.lock
	@echo "installing what requirements/dev.lock names (once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.lock
	@touch $@

# mypy resolves `penstock` through this link, because the repository root is the package.
.build/package/penstock:
	@mkdir -p .build/package && ln -sfn ../.. $@

demo: $(VENV)/server ## replay an hour of real traffic with a canary, watch it, get the verdict
	@$(BIN)/penstock demo $(ARGS)

# Two tests run at a time; those that kill processes and wait for others have the machine to themselves.
test: $(VENV)/dev .build/package/penstock browser kafka prometheus ## every test
	@PATH="$(TOOLS):$$PATH" $(BIN)/python -m pytest tests/unit -n 2 --dist worksteal --cov --cov-report= $(ARGS)
	@PATH="$(TOOLS):$$PATH" $(BIN)/python -m pytest --ignore tests/unit --ignore tests/faults -n 2 --dist loadfile --cov --cov-append --cov-report= $(ARGS)
	@PENSTOCK_FAULTS=$${PENSTOCK_FAULTS:-rotate} PATH="$(TOOLS):$$PATH" $(BIN)/python -m pytest tests/faults --cov --cov-append --cov-report=term $(ARGS)

test-fast: $(VENV)/dev ## the inner loop, under two minutes
	@PENSTOCK_EXAMPLES=$${PENSTOCK_EXAMPLES:-4} $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not browser" tests/unit tests/contract $(ARGS)

check: $(VENV)/dev .build/package/penstock ## ruff, mypy strict, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

faults: $(VENV)/dev kafka ## every fault of the distributed form, several seeds
	@PENSTOCK_FAULTS=all PENSTOCK_FAULT_ROUNDS=$${PENSTOCK_FAULT_ROUNDS:-3} $(BIN)/python -m pytest tests/faults $(ARGS)

demo-faults: $(VENV)/dev kafka ## every fault of the demo, ten seeds without any, both forms
	@PENSTOCK_DEMO_FAULTS=all $(BIN)/python -m pytest tests/integration/test_demo_faults.py $(ARGS)

compose-test: $(VENV)/dev ## docker-compose.yml as it is, on a real Docker engine
	@$(BIN)/python -m penstock.tests.compose $(ARGS)

bench: $(VENV)/dev ## every figure of the documentation, beside a rival or a limit
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script $(ARGS) || exit 1; done

simulate: $(VENV)/dev ## the error rates of gates, by simulation
	@$(BIN)/python benchmarks/gates_simulation.py $(ARGS)

lock: $(VENV)/dev ## resolve the lock files anew
	@$(BIN)/pip install --quiet uv
	@$(BIN)/uv pip compile -q pyproject.toml --extra server --group build --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-header -o requirements/server.lock
	@$(BIN)/uv pip compile -q pyproject.toml --extra server --extra dev --group build --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-header -c requirements/server.lock -o requirements/dev.lock

# The page is tested in a real browser. On Debian as root it is installed when missing.
browser:
ifeq ($(CHROMIUM),)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing chromium"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; \
	else echo "no chromium: the browser tests will say that they did not run"; fi
endif

# A real Kafka for the tests: jars from Maven Central, checked against tests/kafka/checksums.txt.
kafka: $(VENV)/dev
	@if command -v java >/dev/null && command -v mvn >/dev/null; then \
		$(BIN)/python -c "from penstock.tests.support.kafka_node import prepared; prepared()"; \
	else echo "no java or mvn: tests that need Kafka will say so"; fi

# A real Alertmanager and promtool for the tests, taken out of Debian's packages without their services.
# Alertmanager reads its templates from where the package has them.
prometheus:
	@if command -v promtool >/dev/null && command -v prometheus-alertmanager >/dev/null || [ -x $(TOOLS)/promtool ]; then :; \
	elif command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then \
		echo "fetching Prometheus and Alertmanager"; rm -rf .build/prometheus && mkdir -p .build/prometheus && cd .build/prometheus && \
		{ [ "$$(id -u)" != 0 ] || apt-get update -qq; } && apt-get download -qq prometheus prometheus-alertmanager 2>/dev/null && \
		for package in *.deb; do dpkg-deb -x $$package . || exit 1; done && \
		{ [ "$$(id -u)" != 0 ] || cp -rn usr/share/prometheus /usr/share/; }; \
	else echo "no promtool, no alertmanager: tests that need them will say so"; fi

clean: ## remove what was built
	rm -rf $(VENV) .build build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
