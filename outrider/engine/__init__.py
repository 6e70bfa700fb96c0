"""What runs by itself: dispatch, fan-out, upkeep."""
