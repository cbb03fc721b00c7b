"""Runs models on videos: from the file's frames to predictions."""
