"""Rendered test videos with exactly known ground truth."""
