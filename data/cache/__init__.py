"""The feature cache: features and what says what they are, packed or in parts."""
