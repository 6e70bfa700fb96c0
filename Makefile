# Everything here does its own set-up: a fresh clone and Python 3.11 are enough. `make` alone shows the list.

.DEFAULT_GOAL := help
.PHONY: help setup demo up test check bench docs lock clean

RUN := .venv/bin/python tools/contained.py

help: ## Show this list
	@sed -n 's/^\([a-z]*\): .*## /\1|/p' Makefile | while IFS='|' read -r name text; do printf '  make %-7s %s\n' "$$name" "$$text"; done

setup: ## Make .venv from requirements.lock (every other target does this by itself)
	@tools/setup

demo: setup ## Show the main job end to end on real servers: a campaign, its gates, the kill switch, the proof
	@$(RUN) .venv/bin/outrider demo

up: setup ## Run everything on this machine: database, API, worker, scheduler; Ctrl-C stops it
	@exec .venv/bin/outrider up

test: setup ## Everything CI runs: check, then whole walks, drills that kill and cut, and the browser
	@$(RUN) .venv/bin/python tools/checks.py all

check: setup ## The quick half of test: linters, types, layers, contracts, unit tests
	@$(RUN) .venv/bin/python tools/checks.py quick

bench: setup ## Measure every figure of docs/performance.md against its peer (long; needs a quiet machine)
	@$(RUN) .venv/bin/python tools/benches.py

docs: setup ## Write the generated reference pages anew
	@.venv/bin/python -m tools.reference

lock: setup ## Pin the newest packages that pyproject.toml allows, by hash (needs uv)
	@tools/lock

clean: ## Remove what the other targets made (never data of an installation)
	@rm -rf .venv .state .bench .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build node_modules ui/node_modules bench/peers/*/node_modules bench/peers/*/.venv
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
