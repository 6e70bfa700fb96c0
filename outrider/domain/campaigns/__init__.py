"""Campaigns: one content, one sender, one list; made, checked, launched and watched here, expanded elsewhere."""
