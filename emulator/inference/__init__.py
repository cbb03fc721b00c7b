"""What a model computes on the frames of a video."""
