"""What comes in from outside: openings and clicks, what providers report, what people write."""
