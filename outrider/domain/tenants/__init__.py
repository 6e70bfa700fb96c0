"""Tenants and who may act in them: users, sessions, API keys, roles."""
