"""Temporal action detection that trains end to end on a laptop."""

__version__ = "0.1.0"
