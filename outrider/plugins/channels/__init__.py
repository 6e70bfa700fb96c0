"""The channels that come with Outrider; each file is one."""
