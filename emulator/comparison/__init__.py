"""What predictions are compared with and by which rule: one for tests, the console and the command line.

Imported by the server, so nothing of numpy here but in `metrics`, which only the command line imports.
"""
