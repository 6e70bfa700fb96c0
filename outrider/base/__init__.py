"""Pure building blocks: errors, ids, settings, plugin fields. No I/O, no imports from anywhere above."""
