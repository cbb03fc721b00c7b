"""One line of the input file: a video and a segment of it (schema/predict/instance)."""

from dataclasses import dataclass

# Longest line that the reader passes on, in bytes without the line break.
MAX_LINE_BYTES = 1_000_000
MIME_TYPES = ("video/mp4", "video/avi", "video/quicktime")


class InstanceError(Exception):
    """A line cannot be predicted. `code` is a google.rpc code; `message` names the line, the value and the remedy."""

    def __init__(self, code: int, message: str, raw: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.raw = raw


@dataclass(frozen=True)
class Instance:
    """What one line asks for: the segment [start_us, end_us) of a video, to its end when `end_us` is None.

    `raw` is the line as compact JSON, values and key order kept. `warnings` say what was accepted although the
    service would refuse it.
    """

    content: str
    mime_type: str
    start_us: int
    end_us: int | None
    raw: str
    warnings: tuple[str, ...] = ()


def parse_instance_line(raw: bytes, line_number: int, *, strict: bool = False) -> Instance:
    """Parse one line without its line break. Raises InstanceError."""
    raise NotImplementedError
