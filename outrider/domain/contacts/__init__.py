"""Contacts: people, their addresses, their consent, who must not be contacted, lists and imports."""
