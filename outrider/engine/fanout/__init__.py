"""Fan-out: launched campaigns become messages, page by page, and are finished when every recipient is."""
