"""The Cloud Storage surface over the folder of buckets: the parts of the APIs that storage clients need."""

from emulator.api.gcs.route import GcsRoute, mount
from emulator.api.gcs.signatures import Signatures

__all__ = ["GcsRoute", "Signatures", "mount"]
