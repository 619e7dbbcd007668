# Nothing here needs Docker, root or a server of yours: servers and tools go into .lastgood/, which git ignores.

PYTHON ?= python3
ARGS ?=
export KEEP PROFILE ONLY STORE

.DEFAULT_GOAL := help
.PHONY: help build demo test contract bench soak servers fmt lint sqlx metrics alerts compose clean-dev

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

build: ## build the service (target/release/lastgood)
	SQLX_OFFLINE=true cargo build --release --locked

demo: ## break customers' databases, bring them back and prove it by drills, in about a minute after the build (KEEP=1: leave it all running to look around; STORE=s3: archives in a bucket)
	@$(PYTHON) scripts/demo.py

test: ## run every test against private servers (ARGS=part_of_a_name: only those)
	@$(PYTHON) scripts/test.py $(ARGS)

contract: ## hold the HTTP API to its OpenAPI document, with requests good and bad
	@$(PYTHON) scripts/contract.py

bench: ## measure what BENCHMARKS.md claims (SCALE=160: on a database twice as large; ONLY=redis: one part)
	@SCALE=$(SCALE) $(PYTHON) scripts/bench.py

soak: ## kill consumers and stores under hundreds of backups, and count what is left (BACKUPS=50: fewer, PART=rewound: one part)
	@BACKUPS=$(BACKUPS) PART=$(PART) $(PYTHON) scripts/soak.py

servers: ## start the tests' servers and print their addresses, until Ctrl-C
	@$(PYTHON) scripts/servers.py

fmt: ## format the code
	cargo fmt --all

lint: ## clippy, spelling, unused dependencies, dependency rules, rooms and the length of files
	SQLX_OFFLINE=true cargo clippy --workspace --all-targets --locked -- -D warnings
	@$(PYTHON) scripts/tool.py typos
	@$(PYTHON) scripts/tool.py cargo-machete
	@$(PYTHON) scripts/tool.py cargo-deny --locked check bans licenses sources
	@$(PYTHON) scripts/layout.py

sqlx: ## bring .sqlx up to date with the queries and migrations
	@$(PYTHON) scripts/sqlx_cache.py --write

metrics: ## write METRICS.md anew from src/metrics.rs
	SQLX_OFFLINE=true WRITE_METRICS_MD=1 cargo test --locked -p lastgood --lib -- metrics::

alerts: ## check and test Prometheus' rules, and what the rules and the dashboard name
	@$(PYTHON) -m unittest discover --start-directory scripts/tests --top-level-directory scripts --pattern test_alerts.py

compose: ## check docker-compose.yml, and run its commands against private servers
	@$(PYTHON) scripts/compose.py

clean-dev: ## remove the installed servers and tools
	rm -rf .lastgood
