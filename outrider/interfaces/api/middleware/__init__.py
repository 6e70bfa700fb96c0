"""What every request passes, from the outside in: the door, the body's clock, sign-in, rate."""
