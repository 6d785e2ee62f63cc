# `make` lists the targets.
.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "%-15s %s\n", $$1, $$2 }'

.PHONY: run
run: ## Serve on 127.0.0.1:5000 with a SQLite database
	cargo run --release

.PHONY: test
test: ## Run all tests on SQLite and on a private PostgreSQL server
	tests/with-postgres.sh cargo test --locked

.PHONY: lint
lint: ## Check formatting, lints and docs
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

.PHONY: generated
generated: ## Rewrite docs/openapi.json and docs/help.txt
	cargo build --quiet --locked --bin portcullis
	target/debug/portcullis openapi > docs/openapi.json
	{ target/debug/portcullis --help; echo; target/debug/portcullis help settings; } > docs/help.txt

.PHONY: audit
audit: ## Check licences, sources and advisories of the dependencies (needs cargo-deny)
	@. tests/shared/programs.sh; require_programs cargo-deny
	cargo deny --locked check licenses bans sources
	@if cargo deny --locked fetch db; then cargo deny --locked check advisories; else \
		printf '%s\n' '' \
			'************************************************************' \
			'* WARNING: advisories were NOT checked.                    *' \
			'* The advisory database could not be fetched. Dependencies *' \
			'* may have known vulnerabilities. Repeat `make audit` with *' \
			'* access to https://github.com/rustsec/advisory-db.        *' \
			'************************************************************' '' >&2; \
	fi

.PHONY: bench
bench: ## Measure the service against controls, for 25 minutes; PARTS names some (needs wrk, pgbench, Python)
	@. tests/shared/programs.sh; require_programs python3 wrk pgbench
	cargo build --release --locked --bins --example control --example rate --example receivers
	TEST_POSTGRES_FSYNC=on tests/with-postgres.sh benches/service/run.py $(PARTS)

.PHONY: bench-compare
bench-compare: ## Compare target/bench.json with that of an earlier run, named by BASE (needs Python)
	@benches/service/compare.py $(or $(BASE),$(error BASE names no file)) target/bench.json

.PHONY: bench-plot
bench-plot: ## Draw docs/images/performance.svg from target/bench.json (needs Python)
	@benches/service/plot.py target/bench.json docs/images/performance.svg

.PHONY: bench-parts
bench-parts: ## Measure the parts of a token check
	cargo bench --locked

.PHONY: demo-cluster
demo-cluster: ## Measure how fast a logout reaches three instances
	tests/demo-cluster.sh

.PHONY: fuzz-api
fuzz-api: ## Compare the API with its OpenAPI document (needs Python)
	tests/schemathesis.sh

.PHONY: interop-clients
interop-clients: ## Use the API with generated clients and a browser (needs Python, Node, Chromium)
	tests/interop/clients.sh

.PHONY: interop-gateways
interop-gateways: ## Put gateways in front of an API (needs Python, nginx, HAProxy)
	tests/interop/gateways.sh

.PHONY: interop-proxies
interop-proxies: ## Put reverse proxies in front of the service (needs Python, nginx, HAProxy, OpenSSL)
	tests/interop/proxies.sh

.PHONY: test-documents
test-documents: ## Run every command of README.md and docs (needs Python)
	tests/documents.sh

.PHONY: interop-moving
interop-moving: ## Move users from Flask and Django to the service and back (needs Python)
	tests/moving.sh

.PHONY: interop
interop: interop-clients interop-gateways interop-proxies interop-moving ## Use the service with software of others

.PHONY: key-rotation
key-rotation: ## Rotate signing keys under load, with other verifiers watching (needs Python, Node, HAProxy)
	tests/key-rotation.sh

.PHONY: test-verifiers
test-verifiers: ## Test the verifiers for Python and JavaScript (needs Python, Node)
	tests/verifiers.sh

.PHONY: verifier-faults
verifier-faults: ## Measure how soon a logout holds at the verifiers, and under faults (needs Python, Node, HAProxy, nginx)
	tests/verifier-faults.sh

.PHONY: demo
demo: ## Show how a logout ends at APIs and a gateway (needs Python, Node, nginx)
	examples/demo.sh

.PHONY: dashboard-image
dashboard-image: ## Draw docs/images/dashboard.png from eight minutes of traffic (needs Python, Prometheus)
	@. tests/shared/programs.sh; require_programs python3-venv prometheus
	cargo build --release --locked
	[ -d target/dashboard-image ] || python3 -m venv target/dashboard-image
	target/dashboard-image/bin/pip install --quiet matplotlib requests
	tests/with-postgres.sh target/dashboard-image/bin/python -B monitoring/grafana/draw.py

.PHONY: up
up: .env ## Start the service with PostgreSQL, pgAdmin, Prometheus and Grafana
	@. tests/shared/programs.sh; require_programs docker
	@# Adds the secrets that a newer version needs.
	@grep -E '^[A-Z_]+=$$' .env.example | while IFS= read -r line; do \
		grep -q "^$$line" .env || echo "$$line$$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" >> .env; \
	done
	PORTCULLIS_COMMIT="$$(git log -1 --format='%h, %cs' 2>/dev/null)" \
		docker compose up --build --detach --wait --remove-orphans

.PHONY: down
down: ## Stop the services of `make up`; their data is kept
	docker compose down

.env: ## Write random secrets to .env, unless it exists
	@umask 077; while IFS= read -r line; do \
		case $$line in \
			[A-Z]*=) echo "$$line$$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" ;; \
			*) echo "$$line" ;; \
		esac; \
	done < .env.example > .env
	@echo 'wrote .env with random secrets'
