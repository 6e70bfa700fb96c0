"""Templates with versions, and the immutable contents that messages and campaigns point to."""
