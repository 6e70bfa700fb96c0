"""Commands that are processes: they stay until they are told to stop, and need what only the app may wire together."""
