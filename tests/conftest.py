"""Fixtures for every test: the shared PostgreSQL of the run (tests/kit/postgres.py)."""

pytest_plugins = ["tests.kit.postgres"]
