"""The providers that come with Outrider; each file is one."""
