"""Schedules: when a job is enqueued by itself, in whose local time, and what became of each planned time."""
