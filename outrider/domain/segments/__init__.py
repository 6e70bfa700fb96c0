"""Segments: named rules about contacts, compiled to parameterised SQL, counted before use."""
