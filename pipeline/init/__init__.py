"""A config for data of one's own, chosen from the videos and labels."""
