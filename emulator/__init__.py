"""A local emulator of Vertex AI batch prediction for video models."""

__version__ = "0.1.0"
