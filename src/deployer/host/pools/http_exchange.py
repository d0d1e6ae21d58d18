"""One HTTP request and its whole answer, with the trailers that `http.client` throws away."""

from __future__ import annotations

import io
import socket
from typing import Dict, Mapping, NamedTuple, Tuple


class Reply(NamedTuple):
    """What came back; `fields` are headers and trailers, their names in lower case."""

    status: int
    fields: Dict[str, str]
    body: bytes


def exchange(link: socket.socket, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Reply:
    """Ask over *link*, which is of no further use. Raises OSError when no whole answer comes before the socket's timeout."""
    fields = {**headers, "Connection": "close", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    link.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
    received = io.BytesIO()
    while True:
        part = link.recv(65536)
        if not part:
            break
        received.write(part)
    return read(received.getvalue())


def read(answer: bytes) -> Reply:
    """The reply in *answer*. Raises OSError when it is not a whole one."""
    try:
        head, ended, rest = answer.partition(b"\r\n\r\n")
        line, _, lines = head.partition(b"\r\n")
        version, status = line.split(b" ", 2)[:2]
        if not ended or not version.startswith(b"HTTP/1."):
            raise ValueError(version)
        fields = _fields(lines)
        if fields.get("transfer-encoding", "").lower() == "chunked":
            body, trailers = _chunks(rest)
            return Reply(int(status), {**fields, **_fields(trailers)}, body)
        if len(rest) < int(fields.get("content-length", "0")):
            raise ValueError("cut")
        return Reply(int(status), fields, rest)
    except ValueError as error:
        raise OSError(f"no whole HTTP answer: {answer[:60]!r}") from error


def _fields(lines: bytes) -> Dict[str, str]:
    pairs = (line.partition(b":") for line in lines.split(b"\r\n") if line)
    return {name.decode("latin-1").lower(): value.decode("latin-1").strip() for name, _, value in pairs}


def _chunks(rest: bytes) -> Tuple[bytes, bytes]:
    """The body in *rest*, and the trailers behind it. Raises ValueError when the end is missing."""
    body = b""
    while True:
        size, found, rest = rest.partition(b"\r\n")
        if not found:
            raise ValueError("cut")
        length = int(size.split(b";")[0], 16)
        if length == 0:
            return body, rest
        if len(rest) < length + 2:
            raise ValueError("cut")
        body, rest = body + rest[:length], rest[length + 2 :]
