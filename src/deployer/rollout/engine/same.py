"""One name for exactly this deployer: client and nodes exchange its own objects, so they must have the same one."""

from __future__ import annotations

from pathlib import Path

from deployer.wire import source


def same() -> str:
    """Version and a digest of the sources; and the packages that links need are there. Raises ImportError where they are not."""
    import deployer.link.ssh.pipe

    return f"{deployer.__version__} ({_digest(Path(deployer.__file__).parent)})"


def _digest(package: Path) -> str:
    files = {path.relative_to(package).as_posix(): path.read_bytes() for path in package.rglob("*.py")}
    return source.digest(files)[:12]
