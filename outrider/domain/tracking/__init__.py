"""Opens and clicks: what is noticed, where links lead, who it was, and what it adds up to."""
