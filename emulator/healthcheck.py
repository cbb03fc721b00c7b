"""The health check of the image: whether the server in this container is ready. Exit status 0 or 1.

It runs as a script, without the package and without `site`, and imports what is built into Python only: a
check every few seconds must cost next to nothing (`socket` alone would double it). It knows the address
from the environment only.
"""

import _socket
import posix
import sys

_TIMEOUT_S = 4
_OTHERS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def status(environ: dict[str, str]) -> str:
    """The status line of the answer to GET /_emulator/ready."""
    host = environ.get("VERTEX_EMULATOR_HOST", "")
    port = int(environ.get("VERTEX_EMULATOR_PORT") or 8080)
    token = environ.get("VERTEX_EMULATOR_AUTH_TOKEN")
    lines = ["GET /_emulator/ready HTTP/1.1", "Host: localhost", "Connection: close"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    connection = _socket.socket(_socket.AF_INET6 if ":" in host else _socket.AF_INET, _socket.SOCK_STREAM)
    try:
        connection.settimeout(_TIMEOUT_S)
        connection.connect((_OTHERS.get(host, host), port))
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return connection.recv(1024).decode("latin-1").partition("\r\n")[0]
    finally:
        connection.close()


def main() -> int:
    """Ask once; say what is wrong."""
    try:
        answer = status({name.decode(): value.decode() for name, value in posix.environ.items()})
    except (OSError, ValueError) as error:
        answer = f"{type(error).__name__}: {error}"
    # A token that only the configuration file has is not known here: the server lives, which has to do.
    if answer.split()[1:2] in (["200"], ["401"]):
        return 0
    sys.stderr.write(f"The server is not ready: {answer}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
