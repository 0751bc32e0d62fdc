# Everything is installed into .venv and nowhere else; no target needs root.
PYTHON ?= python3
PORT ?= 3000
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
STAMP := .venv/.installed
LOCK := --quiet --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-header --no-annotate
HERE := dev points query object-store postgres
EXECUTORS := celery docker k8s

.DEFAULT_GOAL := check
.PHONY: install lock fmt proto lint types test wire check demo dev cluster bench live containers screenshots torture interrupted living model cuts replicas store looks peers memory faults frames fuzz wheel clean help

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

install: $(STAMP) ## editable install with the development extra, pinned

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "Python cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) --require-hashes -r constraints.txt
	$(PIP) --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
	@echo '$(CURDIR)/resources/import_name' > \
		"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shardkeeper.pth"
	$(BIN)/python -m compileall -q assets pipelines resources
	@touch $(STAMP)

lock: ## resolve constraints.txt and those of the image anew, with hashes; needs uv; UP=1: newer versions
	uv pip compile $(LOCK) $(HERE:%=--extra %) $(if $(UP),--upgrade) pyproject.toml -o constraints.txt
	uv pip compile $(LOCK) --extra postgres -c constraints.txt pyproject.toml deploy/build.in \
		-o deploy/constraints.txt
	for one in $(EXECUTORS); do uv pip compile $(LOCK) --extra postgres --extra $$one \
		-c constraints.txt pyproject.toml deploy/build.in -o deploy/constraints-$$one.txt \
		$$(sed -n 's,^\([^][ =]*\).*==.*,--no-emit-package \1,p' deploy/constraints.txt) || exit 1; done

fmt: install ## format, sort imports
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format --quiet .

proto: install ## generate *_pb2.py from *.proto
	$(BIN)/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. \
		resources/protocol/*.proto

lint: install ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .

types: install ## pyright, strict in the pure rooms
	$(BIN)/pyright

test: install ## all tests; those marked wire where influxd is installed
	$(BIN)/pytest -q -n auto --dist loadgroup

wire: install ## the tests against a real influxd; BIND=host:8091: those of clusters on a real one
ifdef BIND
	SHARDKEEPER_WIRE_BIND='$(BIND)' $(if $(TARGET),SHARDKEEPER_WIRE_TARGET='$(TARGET)') \
		$(if $(STOP_NODE),SHARDKEEPER_WIRE_STOP_NODE='$(STOP_NODE)') \
		$(if $(START_NODE),SHARDKEEPER_WIRE_START_NODE='$(START_NODE)') \
		$(BIN)/pytest -v tests/wire/test_any_cluster.py tests/wire/test_into_shard.py \
			tests/wire/test_overwrite.py
else
	SHARDKEEPER_REQUIRE_WIRE=1 $(BIN)/pytest -q -m wire -n auto --dist loadgroup
endif

check: lint types ## what to run before a commit: no real server needed
	$(BIN)/pytest -q -n auto --dist loadgroup -m "not wire"
	@DAGSTER_HOME= PYTHONWARNINGS='ignore:Function `definitions_validate_command` is superseded' \
		$(BIN)/dagster definitions validate -w workspace.yaml --log-level warning

demo: install ## the main job, on an embedded cluster
	@$(BIN)/python -m resources.embedded.demo

dev: install ## the Dagster UI on http://127.0.0.1:3000, with a cluster to try; PORT=3001
	@$(BIN)/python -m pipelines.dev --port $(PORT)

cluster: install ## an embedded cluster in .devcluster, until Ctrl-C
	@$(BIN)/python -m resources.embedded .devcluster

bench: install ## beside the original tool, in turn; needs influxd; N= rounds, SCALE= of the sets
	@$(BIN)/python -m tests.bench beside -n $(or $(N),7) --scale $(or $(SCALE),1)

live: install ## Dagster's web server and daemon over 120 shards, and on PostgreSQL; minutes
	SHARDKEEPER_LIVE=1 SHARDKEEPER_REQUIRE_POSTGRES=1 $(BIN)/pytest -v tests/live

containers: install ## deploy/compose.yaml in podman, with kills; BUILD= words for podman build, POSTGRES= an image
	@BUILD='$(BUILD)' POSTGRES='$(POSTGRES)' $(BIN)/python -m tests.live.containers

screenshots: install ## the pictures of docs/ui.md; needs chromium and pngquant
	@$(BIN)/python -m tests.screenshots.take

faults: install ## run what breaks things, write docs/faults.md; ROWS= some
	@SHARDKEEPER_REQUIRE_WIRE=1 $(BIN)/python -m tests.faults.table $(ROWS)

torture: install ## N kills, flips and cuts at random; SEED= repeats one
	@$(BIN)/python -m tests.faults.torture $(or $(N),20) $(SEED)

interrupted: install ## N runs killed, stopped and signalled, beside a host with other clocks; N=failpoints
	@$(BIN)/python -m tests.faults.interrupted $(or $(N),20) $(SEED) $(if $(SEED),$(FROM))

living: install ## N restores and M overwrites of a cluster in use; BIND= a real one
	@$(if $(BIND),SHARDKEEPER_WIRE_BIND='$(BIND)' )$(if $(PAUSE),SHARDKEEPER_LIVING_PAUSE='$(PAUSE)' \
		SHARDKEEPER_LIVING_RESUME='$(RESUME)' )$(BIN)/python -m tests.faults.living $(or $(N),7) $(or $(M),7) $(SEED)

model: install ## N random lives of two databases, held against a model; SEED= repeats them
	@$(BIN)/python -m tests.faults.model $(or $(N),20) $(SEED)

replicas: install ## N backups of a cluster with one replica behind, under load; BIND= a real one
	@$(if $(BIND),SHARDKEEPER_WIRE_BIND='$(BIND)') \
		$(if $(STOP_NODE),SHARDKEEPER_WIRE_STOP_NODE='$(STOP_NODE)') \
		$(if $(START_NODE),SHARDKEEPER_WIRE_START_NODE='$(START_NODE)') \
		$(if $(PAUSE_NODE),SHARDKEEPER_WIRE_PAUSE_NODE='$(PAUSE_NODE)') \
		$(if $(RESUME_NODE),SHARDKEEPER_WIRE_RESUME_NODE='$(RESUME_NODE)') \
		$(BIN)/python -m tests.faults.replicas $(or $(N),20) $(SEED)

busy: install ## N backups of an influxd under load: each is complete, or fails by name
	@$(BIN)/python -m tests.faults.busy $(or $(N),20) $(SEED)

looks: install ## N looks and M backups of an influxd: what they cost and leave there; BIND= a real cluster
	@$(if $(BIND),SHARDKEEPER_WIRE_BIND='$(BIND)' SHARDKEEPER_WIRE_FILES='$(FILES)') \
		$(BIN)/python -m tests.faults.scans $(or $(N),100) $(or $(M),50)

peers: install ## N backups, M restores of a cluster with one node in trouble; BIND= a real one
	@$(if $(BIND),SHARDKEEPER_WIRE_BIND='$(BIND)') \
		$(if $(STOP_NODE),SHARDKEEPER_WIRE_STOP_NODE='$(STOP_NODE)') \
		$(if $(START_NODE),SHARDKEEPER_WIRE_START_NODE='$(START_NODE)') \
		$(if $(PAUSE_NODE),SHARDKEEPER_WIRE_PAUSE_NODE='$(PAUSE_NODE)') \
		$(if $(RESUME_NODE),SHARDKEEPER_WIRE_RESUME_NODE='$(RESUME_NODE)') \
		$(BIN)/python -m tests.faults.peers $(or $(N),10) $(or $(M),6) $(SEED)

store: install ## stores tested on a bucket, and N rounds of faults; URL=s3://bucket/prefix, and its environment
	$(if $(URL),SHARDKEEPER_STORE_URL='$(URL)') $(BIN)/pytest -q -k bucket \
		tests/resources/repository/storage/test_store_contract.py tests/faults/test_bucket.py
	$(if $(URL),SHARDKEEPER_STORE_URL='$(URL)') $(BIN)/python -m tests.faults.bucket_trouble $(or $(N),20) $(SEED)

cuts: install ## N shards, each connection cut once, and a restore killed KILLS times; BIND= a real one
	@$(if $(BIND),SHARDKEEPER_WIRE_BIND='$(BIND)') \
		$(BIN)/python -m tests.faults.cut_off $(or $(N),30) $(or $(KILLS),5) $(SEED)

histories: install ## N random lives of a server and its clocks: what changed is not called unchanged
	@$(BIN)/python -m tests.faults.histories $(or $(N),20) $(SEED)

memory: install ## what a shard of 25 GB costs in memory, beside one of 1 MB; GB= another size
	@$(BIN)/python -m tests.faults.memory $(or $(GB),25)

frames: install ## N random databases, restored: their frames are what a real influxd answers
	@$(BIN)/python -m tests.faults.frames $(or $(N),20) $(SEED)

fuzz: install ## hostile bytes for the parsers; SECONDS= of CPU time each
	@$(BIN)/python -m tests.fuzz.run $(or $(SECONDS),60)

wheel: install ## build the wheel, and read a backup by what is in it
	@$(BIN)/python -m tests.wheel

clean: ## forget .venv and caches
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis *.egg-info
