"""Detectors that ETAD is compared with (docs/baselines.md)."""
