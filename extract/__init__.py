"""Videos in, feature cache out."""
