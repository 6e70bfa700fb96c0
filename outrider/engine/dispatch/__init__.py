"""Dispatch: claim -> gate -> render -> send -> record -> recover. The one walk every message takes."""
