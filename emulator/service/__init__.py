"""Use cases: what each RPC means, for every surface. No HTTP, no gRPC.

Methods take and return v1 messages (see Reply) and raise `ApiError`. They are thread-safe.
"""

from emulator.service.context import Call, Context, HasToWait, Place, Reply
from emulator.service.service import Method, Service

__all__ = ["Call", "Context", "HasToWait", "Method", "Place", "Reply", "Service"]
