"""The surfaces: REST, gRPC, Cloud Storage, control surface and console, on one service."""
