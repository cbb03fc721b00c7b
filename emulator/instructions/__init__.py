"""Instructions for jobs and calls: the pace of a job, injected faults, and the header that asks for them.

Pure: texts and JSON in, plain data out. The service parses them, the job row stores them, runners obey them.
"""


class InstructionError(ValueError):
    """An invalid instruction; the message names it and what is allowed."""
