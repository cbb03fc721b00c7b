"""What jobs and calls are told to do on purpose: the pace of a job, faults, the header that asks for them.

Pure: texts and JSON in, plain data out. The service hands it out, the job row carries it, runners obey.
"""


class InstructionError(ValueError):
    """An instruction that cannot be read; the message names it and what fits."""
