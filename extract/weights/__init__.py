"""Encoder weights: local files in the publishers' layouts."""
