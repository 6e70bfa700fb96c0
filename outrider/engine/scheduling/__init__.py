"""Firing schedules: the loops of a scheduler process that turn planned times into jobs."""
