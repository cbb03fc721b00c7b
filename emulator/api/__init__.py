"""Surfaces: how the contract is reached."""
