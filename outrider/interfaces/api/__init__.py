"""The HTTP API under /api/v1 and the paths of the runbooks."""
