"""One HTTP/1.1 answer, read as its bytes come."""

from __future__ import annotations


class Answer:
    """Whole by Content-Length, by its last chunk, or with the end of the connection where it says neither."""

    def __init__(self) -> None:
        self.status = 0
        self.closes = False
        self.body = b""
        self.size = 0
        self._raw = b""
        self._length: int | None = None
        self._chunked = False

    @property
    def begun(self) -> bool:
        return self.size > 0

    @property
    def ends_with_connection(self) -> bool:
        """Whether an orderly EOF is the end of the answer, and not a cut."""
        return self.status > 0 and not self._chunked and self._length is None

    def feed(self, data: bytes) -> bool:
        """Whether the answer is whole with *data*. Raises ValueError where it is no HTTP."""
        self.size += len(data)
        self._raw += data
        if not self.status and not self._take_head():
            return False
        if self._chunked:
            return self._take_chunks()
        self.body += self._raw
        self._raw = b""
        return self._length is not None and len(self.body) >= self._length

    def _take_head(self) -> bool:
        if not b"HTTP/1.".startswith(self._raw[:7]):
            raise ValueError(repr(self._raw[:40]))
        head, end, rest = self._raw.partition(b"\r\n\r\n")
        if not end:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.status = int(first.split()[1])
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._length = int(headers["content-length"]) if "content-length" in headers else None
        says = headers.get("connection", "").lower()
        self.closes = says == "close" or (first.startswith("HTTP/1.0") and says != "keep-alive")
        self._raw = rest
        return True

    def _take_chunks(self) -> bool:
        while True:
            line, end, rest = self._raw.partition(b"\r\n")
            if not end:
                return False
            length = int(line.partition(b";")[0], 16)
            if len(rest) < length + 2:
                return False
            self.body += rest[:length]
            self._raw = rest[length + 2 :]
            if not length:
                return True
