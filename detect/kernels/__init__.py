"""Fast evaluation of proposals on the CPU; everything that is there for speed alone."""
