"""Selfie, the offline stage: images become checked, reproducible shards."""

__version__ = "0.1.0"
