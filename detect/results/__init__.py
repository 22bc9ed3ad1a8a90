"""From raw predictions to detections and their evaluation."""
