"""Recordings, the log, Parquet tables and the DuckDB index; knows nothing of models, features, flows or HTTP."""
