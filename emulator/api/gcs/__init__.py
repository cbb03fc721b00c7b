"""A Cloud Storage surface over the folder of buckets: the JSON API, as far as storage clients need it."""

from emulator.api.gcs.route import GcsRoute, mount
from emulator.api.gcs.signatures import Signatures

__all__ = ["GcsRoute", "Signatures", "mount"]
