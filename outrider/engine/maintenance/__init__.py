"""Upkeep: partitions ahead, rollups folded, retention, the daily health check."""
