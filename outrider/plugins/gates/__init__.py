"""The gates that come with Outrider; each file is one."""
