"""nginx's `upstream` block as text: which servers it sends to, and the same text with other ones."""

from __future__ import annotations

import re
from typing import List, NamedTuple, Optional, Sequence

_SERVER = re.compile(r"^(\s*)server\s+([^\s;]+)([^;#]*);(.*)$")


class Server(NamedTuple):
    """One line `server ADDRESS parameters;`."""

    indent: str
    address: str
    parameters: str
    rest: str

    @property
    def down(self) -> bool:
        return "down" in self.parameters.split()

    def line(self) -> str:
        words = "".join(f" {word}" for word in (self.address, *self.parameters.split()))
        return f"{self.indent}server{words};{self.rest}"

    def up(self, address: str) -> "Server":
        """This line for *address*, with the same parameters, taking traffic."""
        kept = " ".join(word for word in self.parameters.split() if word != "down")
        return Server(self.indent, address, kept, self.rest)

    def out(self) -> "Server":
        return self if self.down else Server(self.indent, self.address, f"{self.parameters} down".strip(), self.rest)


def read(line: str) -> Optional[Server]:
    """The server in *line*, or None when it holds something else."""
    found = _SERVER.match(line)
    return Server(*found.groups()) if found else None


def fault(text: str, name: str) -> Optional[str]:
    """Why *text* cannot be changed by us, or None: one block of that *name*, with every server on a line of its own."""
    code = re.sub(r"#[^\n]*", "", text)
    blocks = re.findall(r"\bupstream\s+(\S+?)\s*\{", code)
    if blocks != [name]:
        found = ", ".join(blocks) or "none"
        return f"it holds the upstreams {found}, where one was expected: {name}"
    body = code[code.index("{") + 1 :]
    if "{" in body or body.count("}") != 1 or body.partition("}")[2].strip():
        return f"it holds more than the block of upstream {name}"
    servers = [line for line in text.splitlines() if read(line)]
    if len(re.findall(r"(?:^|[;{}\s])server\s", code)) != len(servers):
        return "every server must stand on a line of its own: `server 127.0.0.1:3001;`"
    if text.splitlines()[-1:] and re.match(r"^\s*\}\s*$", code.rstrip().splitlines()[-1]) is None:
        return "the closing } must stand on a line of its own"
    return None


def live(text: str) -> List[str]:
    """The addresses in *text* that take traffic."""
    servers = (read(line) for line in text.splitlines())
    return [server.address for server in servers if server is not None and not server.down]


def first(name: str, addresses: Sequence[str], leaving: Sequence[str], note: str) -> str:
    """The text of a file that was not there."""
    return change(f"# {note}\nupstream {name} {{\n}}\n", addresses, leaving)


def change(text: str, addresses: Sequence[str], leaving: Sequence[str]) -> str:
    """
    *text* with *addresses* taking traffic and *leaving* without any; other servers and directives stay as they are.

    What leaves is removed, and not marked `down`: nginx never gives up a server that is alone in its upstream, but beside a
    second one, even one that is down, a single failure would take it out for `fail_timeout`. Only where no server
    would be left does one stay, down, since nginx accepts no empty upstream.
    """
    going = [address for address in leaving if address not in addresses]
    missing = [address for address in dict.fromkeys(addresses) if address not in _all(text)]
    lines: List[str] = []
    gone: List[Server] = []
    for line in text.splitlines():
        server = read(line)
        if server is not None and server.address in going:
            gone.append(server)
            if missing:  # in its place, and with the parameters that somebody gave it
                lines.append(server.up(missing.pop(0)).line())
        elif server is not None and server.address in addresses:
            lines.append(server.up(server.address).line() if server.down else line)
        else:
            lines.append(line)
    added = [Server("    ", address, "", "").line() for address in missing]
    if not added and not any(read(line) for line in lines):
        added = [(gone or [Server("    ", address, "", "") for address in going or [NOBODY]])[0].out().line()]
    end = max(number for number, line in enumerate(lines) if "}" in line.partition("#")[0])
    return "\n".join([*lines[:end], *added, *lines[end:]]) + "\n"


NOBODY = "127.0.0.1:1"


def _all(text: str) -> List[str]:
    servers = (read(line) for line in text.splitlines())
    return [server.address for server in servers if server is not None]
