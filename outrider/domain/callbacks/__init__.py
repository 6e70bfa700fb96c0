"""What providers tell us by themselves: kept once, applied in any order; and what people write."""
