"""What comes in from outside and is taken in by itself: openings and clicks."""
