"""Annotations and detections in the forms of other tools."""
