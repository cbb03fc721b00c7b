"""The health check of the image. It exits with 0 if the server in this container is ready, else with 1.

It runs as a script, without the package and without `site`, and imports only modules that are built into
Python: it runs every few seconds, and importing `socket` alone would double its cost. It takes the address
from the environment only.
"""

import _socket
import posix
import sys

_TIMEOUT_S = 4
_OTHERS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def status(environ: dict[str, str]) -> str:
    """Send GET /_emulator/ready and return the status line of the answer. Raises OSError and ValueError."""
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
    """Check once. Return the exit status; if the server is not ready, write the reason to standard error."""
    try:
        answer = status({name.decode(): value.decode() for name, value in posix.environ.items()})
    except (OSError, ValueError) as error:
        answer = f"{type(error).__name__}: {error}"
    # 401: the token stands in the configuration file, which this script does not read. The server is alive.
    if answer.split()[1:2] in (["200"], ["401"]):
        return 0
    sys.stderr.write(f"The server is not ready: {answer}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
