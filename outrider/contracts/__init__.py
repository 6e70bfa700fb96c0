"""What a plugin must be and the ports handed downwards: pure types, no I/O, nothing of the product imported."""
