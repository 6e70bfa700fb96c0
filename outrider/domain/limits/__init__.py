"""What stops or slows sending: the kill switch, maintenance, shared rates."""
