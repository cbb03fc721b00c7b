"""The contract: what Google specifies, without I/O."""
