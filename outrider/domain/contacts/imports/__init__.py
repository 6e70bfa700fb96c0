"""Import of contacts from CSV: a file is examined as a whole, then taken in batches with a checkpoint."""
