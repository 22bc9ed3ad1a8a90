"""What every stage reads and writes: annotations, videos, features, detections, checkpoints."""
