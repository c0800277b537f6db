.DEFAULT_GOAL := help
.PHONY: help run cluster build test lint fmt bench bench-cluster bench-plans chaos chaos-cluster accept clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Start the development server
	cargo run --locked -p tsp --no-default-features -- dev

cluster: ## Start a small cluster on this machine, to try it
	tools/cluster

build: ## Build the release executable, target/release/tsp
	cargo build --locked --release -p tsp

test: ## Set up what is missing, then check and test everything
	tools/test

lint: ## Only the checks: format, layers, maps, documents, claims, imports, statements, sizes, words, dependencies, clippy
	tools/test lint

fmt: ## Format the code
	cargo fmt --all

bench: ## Run the benchmarks beside a raw HTTP loop
	cargo build --locked --release -p tsp -p bench
	target/release/bench $(ARGS)

bench-cluster: ## Run them on a cluster: MariaDB, nsqd and two processes of each role on this machine
	tools/install-nsq && tools/install-mariadb
	cargo build --locked --release -p tsp -p bench
	target/release/bench --cluster $(ARGS)

bench-plans: ## Compare every hot query's plan on MariaDB with the golden one, beside 10,000,000 rows of each kind
	tools/install-mariadb
	TSP_PLAN_ROWS=$${TSP_PLAN_ROWS:-10000000} cargo test --locked -p tsp-store-mysql --lib tests::plans -- --nocapture

chaos: ## Run the tests that kill processes
	cargo build --locked --workspace --all-targets
	TSP_CHAOS_KILLS=$${TSP_CHAOS_KILLS:-30} tools/some-tests chaos:: --nocapture --test-threads 1

chaos-cluster: ## Run the ledger of a cluster: faults of every kind under load, on the release build
	tools/install-nsq && tools/install-mariadb
	cargo build --locked --release -p tsp
	TSP_TEST_SHAPE=cluster TSP_CHAOS_FAULTS=$${TSP_CHAOS_FAULTS:-40} TSP_CHAOS_RATE=$${TSP_CHAOS_RATE:-500} \
		cargo test --locked --release -p tests --test it cluster::ledger:: -- --nocapture --test-threads 1

accept: ## Show what is promised, each with its figure
	tools/accept

clean: ## Remove what was built and installed here
	cargo clean
	rm -rf .tools
