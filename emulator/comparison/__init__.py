"""Compares predictions with expectations, by one rule for tests, the console and the command line.

The server imports this package, so only `metrics`, which only the command line imports, may use numpy.
"""
