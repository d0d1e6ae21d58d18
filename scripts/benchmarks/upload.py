"""
upload: how a release's content reaches a host, next to scp, tar and rsync over the same OpenSSH server on loopback.

Seconds: a large file and 5,000 small ones that the host has never seen. Of each tool the time of a bare `ssh true` is taken
off, of ours the connection is not counted. Bytes: what crosses the link, both ways, when little has changed; of rsync what
`--stats` says, of ours all frames of a whole push (the request to open it and its events too), not the SSH handshake.

All of it lies in memory (/dev/shm) where that is possible: ext4 is slow to give out inodes that were freed a moment ago.
"""

from __future__ import annotations

import random
import re
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import processes
from benchmarks.figures import Figure, Table
from benchmarks.processes import progress
from benchmarks.pushes import Pushes
from benchmarks.sshd import ADDRESS, Server, sshd

BIG, FILES = 200_000_000, 5000
WORDS = ("const", "return", "function", "export", "await", "import", "this", "=>", "{", "}", "(", ")", ";", "=", "null")


def run(scratch: Path, rounds: int) -> list[Table]:
    """Ratios have goals; seconds and bytes stand beside them."""
    for tool in ("rsync", "scp", "ssh", "tar"):
        if shutil.which(tool) is None:
            raise SystemExit(f"bench: upload needs {tool}")
    with _in_memory(scratch) as root, sshd(root) as server:
        peers = Peers(server, root)
        big = [_big(peers, name, content(), rounds) for name, content in CONTENTS.items()]
        return [*big, _small(peers, rounds), _one_of_many(peers), _differences(peers)]


@contextmanager
def _in_memory(scratch: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 20 * BIG:
        yield scratch
        return
    root = Path(tempfile.mkdtemp(prefix="deployer-bench-upload-", dir=memory))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


class Peers:
    """The tools that we are held against; each call goes to a place of its own."""

    def __init__(self, server: Server, scratch: Path) -> None:
        self.server, self.scratch = server, scratch
        self._places = 0

    def place(self) -> Path:
        self._places += 1
        return self.scratch / f"place{self._places}"

    def ours(self, artifact: Path) -> float:
        """Seconds of an upload to a host that has nothing."""
        place = self.place()
        took = Pushes(self.server, artifact, place).push(whole=False).seconds
        shutil.rmtree(place)
        return took

    def scp(self, file: Path) -> float:
        place = self.place()
        took = processes.run(["scp", "-q", "-F", self.server.config, file, f"{ADDRESS}:{place}"]).wall / 1000
        place.unlink()
        return took

    def bare(self) -> float:
        return processes.run(["ssh", "-F", self.server.config, ADDRESS, "true"]).wall / 1000

    def tar(self, directory: Path) -> float:
        place, config = self.place(), self.server.config
        there = f"mkdir {place} && tar -C {place} -xf -"
        return (
            processes.run(["sh", "-c", f"tar -C {directory} -cf - . | ssh -F {config} {ADDRESS} '{there}'"]).wall / 1000
        )

    def rsync(self, directory: Path, place: Path, *options: str) -> tuple[float, int]:
        """Seconds, and bytes both ways."""
        shell = f"ssh -F {self.server.config}"
        done = processes.run(["rsync", "-az", "--stats", *options, "-e", shell, f"{directory}/", f"{ADDRESS}:{place}"])
        told = re.findall(r"^Total bytes (?:sent|received): ([\d,]+)", done.out, re.MULTILINE)
        return done.wall / 1000, sum(int(count.replace(",", "")) for count in told)


def _noise() -> bytes:
    return random.Random(1).randbytes(BIG)


def _text() -> bytes:
    chance = random.Random(1)
    piece = " ".join(f"{chance.choice(WORDS)} {chance.random()}" for _ in range(200_000)).encode()
    return (piece * (BIG // len(piece) + 1))[:BIG]


CONTENTS: dict[str, Callable[[], bytes]] = {"random": _noise, "compressible": _text}


def _big(peers: Peers, name: str, content: bytes, rounds: int) -> Table:
    artifact = peers.place()
    artifact.mkdir()
    (artifact / "big").write_bytes(content)
    ours, scp = [], []
    for number in range(rounds):
        progress(f"upload: {name}, round {number + 1} of {rounds}")
        turns = [
            lambda: ours.append(peers.ours(artifact)),
            lambda: scp.append(peers.scp(artifact / "big") - peers.bare()),
        ]
        for turn in random.sample(turns, 2):
            turn()
    return _against(f"upload · {BIG / 1e6:.0f} MB, {name}, cold, {rounds} rounds", ours, "scp", scp, goal=1.0)


def _small(peers: Peers, rounds: int) -> Table:
    artifact = _many(peers)
    ours, tar, rsync = [], [], []
    for number in range(rounds):
        progress(f"upload: {FILES:,} files, round {number + 1} of {rounds}")
        turns = [
            lambda: ours.append(peers.ours(artifact)),
            lambda: tar.append(peers.tar(artifact) - peers.bare()),
            lambda: rsync.append(peers.rsync(artifact, peers.place())[0] - peers.bare()),
        ]
        for turn in random.sample(turns, 3):
            turn()
    table = _against(f"upload · {FILES:,} files, 20 MB, cold, {rounds} rounds", ours, "tar over ssh", tar, goal=None)
    table.figures.append(Figure("rsync -z", rsync, "s"))
    return table


def _against(title: str, ours: list[float], peer: str, theirs: list[float], goal: float | None) -> Table:
    ratio = Figure(f"ours / {peer}, of the medians", [statistics.median(ours) / statistics.median(theirs)], "x", goal)
    return Table(title, [Figure("deployer", ours, "s"), Figure(peer, theirs, "s"), ratio])


def _many(peers: Peers) -> Path:
    artifact, chance = peers.place(), random.Random(2)
    for number in range(FILES):
        path = artifact / "lib" / f"package{number % 211}" / f"module_{number}.js"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(f"{chance.choice(WORDS)} {chance.random()}" for _ in range(160)))
    return artifact


def _one_of_many(peers: Peers) -> Table:
    progress(f"upload: 1 of {FILES:,} files changed")
    artifact, place = _many(peers), peers.place()
    pushes = Pushes(peers.server, artifact, peers.place())
    pushes.push()
    unchanged = pushes.push().whole
    peers.rsync(artifact, place)
    same = peers.rsync(artifact, place)[1]
    (artifact / "lib/package0/module_0.js").write_text("changed")
    ours, theirs = pushes.push().whole, peers.rsync(artifact, place)[1]
    pushes.stop()
    table = _bytes(f"upload · bytes, 1 of {FILES:,} files changed", "changed", ours, theirs, 0.1)
    table.figures += _bytes("", "unchanged", unchanged, same, None).figures
    return table


def _differences(peers: Peers) -> Table:
    data = _noise()
    table = Table(f"upload · bytes, a {BIG / 1e6:.0f} MB file with small changes")
    artifact, place = peers.place(), peers.place()
    artifact.mkdir()
    (artifact / "big").write_bytes(data)
    pushes = Pushes(peers.server, artifact, peers.place())
    pushes.push()
    peers.rsync(artifact, place)
    for name, (changed, goal) in _changes(data).items():
        progress(f"upload: {name}")
        (artifact / "big").write_bytes(changed)
        ours, theirs = pushes.push().whole, peers.rsync(artifact, place, "-I")[1]
        table.figures += _bytes("", name, ours, theirs, goal).figures
        (artifact / "big").write_bytes(data)  # and back: every case starts from the same file
        pushes.push()
        peers.rsync(artifact, place, "-I")
    pushes.stop()
    return table


def _changes(data: bytes) -> dict[str, tuple[bytes, float]]:
    middle, chance = len(data) // 2, random.Random(3)

    def overwritten(times: int, size: int) -> bytes:
        changed = bytearray(data)
        for _ in range(times):
            at = chance.randrange(len(data) - size)
            changed[at : at + size] = chance.randbytes(size)
        return bytes(changed)

    return {
        "2,000,003 bytes inserted": (data[:middle] + chance.randbytes(2_000_003) + data[middle:], 1.1),
        "50 x 40 kB overwritten": (overwritten(50, 40_000), 1.5),
        "500 x 4 kB overwritten": (overwritten(500, 4_000), 1.5),
    }


def _bytes(title: str, name: str, ours: int, theirs: int, goal: float | None) -> Table:
    return Table(
        title,
        [
            Figure(f"{name}: deployer", [ours / 1000], "kB"),
            Figure(f"{name}: rsync -z", [theirs / 1000], "kB"),
            Figure(f"{name}: ours / rsync -z", [ours / theirs], "x", goal),
        ],
    )
