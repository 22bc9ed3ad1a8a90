"""Feature cache in, detections out."""
