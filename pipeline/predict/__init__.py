"""From a trained run to what happens in new videos, on the command line and in Python."""
