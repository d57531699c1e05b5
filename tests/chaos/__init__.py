"""Faults that a lake must survive, struck on purpose. `make chaos` → build/chaos.json."""
