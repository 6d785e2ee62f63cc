# `make` lists what there is.
.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "%-12s %s\n", $$1, $$2 }'

.PHONY: run
run: ## Serve on 127.0.0.1:5000 with an embedded database
	cargo run --release

.PHONY: test
test: ## Run every test, on SQLite and on a Postgres server of its own
	tests/with-postgres.sh cargo test --locked

.PHONY: lint
lint: ## Check the format, the lints and the docs
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

.PHONY: audit
audit: ## Check licences, sources and advisories of the dependencies (needs cargo-deny)
	cargo deny --locked check licenses bans sources
	@if cargo deny --locked fetch db; then cargo deny --locked check advisories; \
	else echo 'the advisory database cannot be fetched: advisories were NOT checked'; fi

.PHONY: bench
bench: ## Measure the service against controls, some minutes long (needs wrk, pgbench and Python)
	cargo build --release --locked --bins --example control
	TEST_POSTGRES_FSYNC=on tests/with-postgres.sh benches/service/run.py

.PHONY: bench-parts
bench-parts: ## Measure what checking a token consists of
	cargo bench --locked

.PHONY: demo-cluster
demo-cluster: ## Log out at one of three instances, and see when the others know
	tests/demo-cluster.sh

.PHONY: fuzz-api
fuzz-api: ## Compare what the API does with its OpenAPI document (needs Python)
	tests/schemathesis.sh

.PHONY: up
up: .env ## Start the service with Postgres, pgAdmin, Prometheus and Grafana
	docker compose up --build --detach --wait --remove-orphans

.PHONY: down
down: ## Stop all that, and keep its data
	docker compose down

.env: ## Made once, with random secrets
	@umask 077; while IFS= read -r line; do \
		case $$line in \
			[A-Z]*=) echo "$$line$$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" ;; \
			*) echo "$$line" ;; \
		esac; \
	done < .env.example > .env
	@echo 'wrote .env with random secrets'
