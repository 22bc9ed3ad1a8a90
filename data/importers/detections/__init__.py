"""Detections handed out in the forms of others."""
