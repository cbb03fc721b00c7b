"""The Cloud Storage surface over the folder of buckets: the parts of the APIs that storage clients need."""

from emulator.gcs.route import GcsRoute, mount
from emulator.gcs.signatures import Signatures

__all__ = ["GcsRoute", "Signatures", "mount"]
