"""The nouns: one folder each, with its tables or queries and one file per verb."""
