"""The detector network and what it is composed of."""
