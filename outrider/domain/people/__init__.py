"""One person as a whole, across every noun: made one with another, exported, erased."""
