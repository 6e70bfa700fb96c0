"""Jobs: work that goes on by itself, its queues, its states and everything a person may do to it."""
