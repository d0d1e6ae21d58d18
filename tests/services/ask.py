"""
A client that waits for one answer: `ask.py METHOD URL` prints its body; exits with 1 where it is no 200.

Without urllib, whose import costs three times as much as all of this.
"""

import socket
import sys

PATIENCE = 600.0


def main() -> int:
    method, url = sys.argv[1:]
    address, _, target = url.removeprefix("http://").partition("/")
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE) as server:
        server.sendall(f"{method} /{target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        head, _, body = b"".join(iter(lambda: server.recv(65536), b"")).partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        print(head, body, file=sys.stderr)
        return 1
    print(body.decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
