"""Video encoders, one architecture a file."""
