"""Key-and-shape manifests of published checkpoints."""
