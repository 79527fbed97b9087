"""What `run.py` and `checkpoint.py` stand on: durable files, sealed folders, locks, provenance."""
