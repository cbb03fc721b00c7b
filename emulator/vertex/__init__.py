"""The contract of Vertex AI: what Google specifies, without I/O."""
