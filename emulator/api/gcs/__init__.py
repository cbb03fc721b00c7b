"""A Cloud Storage surface over the folder of buckets: the JSON API, as far as storage clients need it."""

from emulator.api.gcs.route import GcsRoute, mount

__all__ = ["GcsRoute", "mount"]
