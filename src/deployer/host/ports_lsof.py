"""Who listens on a port, where there is no /proc: asked of `lsof`. Not run on macOS by us."""

from __future__ import annotations

from typing import Dict, List, NamedTuple

from deployer.host.process_darwin import asked


class Listener(NamedTuple):
    """One descriptor on which a process listens; `device` names its socket, whoever holds it."""

    pid: int
    fd: int
    device: int
    host: str
    port: int


def listeners() -> List[Listener]:
    """Every TCP socket on which somebody listens, as far as we may look."""
    return parse(asked("lsof", "-nP", "-iTCP", "-sTCP:LISTEN", "-Fpfdn"))


def parse(printed: str) -> List[Listener]:
    """What `lsof -Fpfdn` prints: a line for each field, its first letter says which; a name ends what is said of a descriptor."""
    found: List[Listener] = []
    said: Dict[str, str] = {}
    for line in printed.splitlines():
        said[line[:1]] = line[1:]
        host, colon, port = line[1:].rpartition(":")
        if line.startswith("n") and colon and port.isdigit() and said.get("f", "").isdigit():
            plain = "0.0.0.0" if host == "*" else host.strip("[]")
            found.append(Listener(int(said["p"]), int(said["f"]), int(said.get("d", "0"), 16), plain, int(port)))
    return found
