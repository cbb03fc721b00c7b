"""What every HTTP surface shares: the extension of a request's scope that resets its connection."""

from typing import Any

#: Extension of a request's ASGI scope: a function that resets the connection.
RESET = "emulator.reset"


async def reset_connection(scope: Any, receive: Any) -> None:
    """Reset the connection of a request without an answer, as a broken network does."""
    reset = scope.get("extensions", {}).get(RESET)
    if reset is not None:
        reset()
        while (await receive())["type"] != "http.disconnect":
            pass
