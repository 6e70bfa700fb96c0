"""Signing up: public forms, confirmation by a link in a mail, and what people choose afterwards."""
