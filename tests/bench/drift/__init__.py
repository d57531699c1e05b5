"""Drift found when it is there, and silence when it is not, on real recordings."""
