"""Upkeep: partitions ahead, rollups folded, retention. Runs in workers until there are schedules."""
