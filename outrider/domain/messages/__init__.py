"""Messages: the ledger, its queue, lanes, events and rollups. The one walk of every message is written here once."""
