"""What the detector should predict, and how far it is from it."""
