"""Which proposals and which snippets a training step takes."""
