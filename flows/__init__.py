"""Prefect flows: the only place that composes features, models and storage."""
