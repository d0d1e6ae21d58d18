"""
What an SSH session starts on a host: it brings the engine up, from the disk or from the bundle that the client sends.

Sent as text and run by `link/bootstrap.py`'s one constant command, with the login user's home as its argument; nothing may be
imported from the package before it is found. The conversation: the client sends one JSON frame `{"engine": hash, "path": path,
"argv": [...]}`; we say MAGIC, then `{"have": bool, "python": "3.11.2"}`; without `have` the client sends the bundle as one
frame of bytes (zlib of JSON, name to source). From then on it is the agent's connection.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import zlib
from types import ModuleType
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    def exactly(count: int) -> bytes:
        """So many bytes of the descriptor 0, and none ahead: the constant command brings it along."""


MAGIC = b"\ndeployer-engine-1\n"
"""After whatever a login shell may have printed."""
HEADER = struct.Struct(">cI")


class Bundle:
    """Imports the engine from memory: a host that was only asked something keeps nothing."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        from importlib.util import spec_from_loader

        base = name.replace(".", "/")
        for file, package in ((base + "/__init__.py", True), (base + ".py", False)):
            if file in self._files:
                return spec_from_loader(
                    name,
                    self,  # type: ignore[arg-type]
                    origin="<engine>/" + file,
                    is_package=package,
                )
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        return None  # the usual one

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None and spec.origin is not None
        if spec.name == "deployer":
            module.__dict__["__bundle__"] = self._files
        name = spec.origin[len("<engine>/") :]
        exec(compile(self._files[name], spec.origin, "exec", dont_inherit=True), module.__dict__)


def digest(files: Mapping[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(name.encode() + b"\0" + files[name] + b"\0")
    return whole.hexdigest()[:16]


def on_disk(home: str) -> Optional[Dict[str, bytes]]:
    """The engine's files below *home*, or None where they cannot be read."""
    found = {}
    try:
        for directory, _, names in os.walk(home):
            for name in names:
                if name.endswith(".py"):
                    path = f"{directory}/{name}"
                    with open(path, "rb", 0) as file:
                        found[path[len(home) + 1 :]] = file.read()
    except OSError:
        return None
    return found


def ours(home: str) -> bool:
    """
    Whether only we, or root, could have written what would run from *home*, compiled files too: no digest is over those.

    `host/engine.py` asks in the same way.
    """
    trusted = (0, os.geteuid())
    places = [os.path.dirname(os.path.dirname(home)), os.path.dirname(home), home]
    try:
        for directory, below, names in os.walk(home):
            places += [f"{directory}/{name}" for name in below + names]
        found = [os.lstat(place) for place in places]
    except OSError:
        return False
    return all(one.st_uid in trusted and not one.st_mode & 0o022 for one in found)


def receive() -> bytes:
    """One frame's body."""
    _, length = HEADER.unpack(exactly(HEADER.size))
    return exactly(length)


def say(message: Dict[str, Any]) -> None:
    body = json.dumps(message).encode("ascii")
    sys.stdout.buffer.write(MAGIC + HEADER.pack(b"J", len(body)) + body)
    sys.stdout.buffer.flush()


def main() -> None:
    os.umask(0o022)  # Python writes compiled files beside the engine: for nobody else to write
    os.environ["DEPLOYER_HOME"] = sys.argv[1]  # the login user's, whatever sudo makes of HOME
    asked = json.loads(receive())
    path = asked["path"]
    if path == "~" or path.startswith("~/"):
        path = sys.argv[1] + path[1:]
    home = f"{path}/.deployer/engine/{asked['engine']}"
    have = os.path.isdir(home) and ours(home) and digest(on_disk(home) or {}) == asked["engine"]
    say({"have": have, "python": sys.version.split()[0]})
    if have:
        sys.path.append(home)
    else:
        files = json.loads(zlib.decompress(receive()))
        files = {name: text.encode() for name, text in files.items()}
        if digest(files) != asked["engine"]:
            sys.stderr.write("the engine was damaged on its way\n")
            os._exit(1)
        sys.meta_path.append(Bundle(files))
    import deployer

    deployer.__dict__["__digest__"] = asked["engine"]
    from deployer.host.agent import main as agent

    code = agent(asked["argv"])
    sys.stderr.flush()
    os._exit(code)


main()
