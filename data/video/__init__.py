"""Videos: what is in them, and their frames."""
