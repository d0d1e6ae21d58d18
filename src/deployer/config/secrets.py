"""Secrets come from the environment of the client, and stand in no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deployer.errors import UsageError


def values(names: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The value of each of *names* in *environ*; UsageError naming every one that is missing or empty."""
    missing = [name for name in names if not environ.get(name)]
    if missing:
        raise UsageError(
            f"missing secret{'s' if len(missing) > 1 else ''}: {', '.join(missing)}",
            cause="run.secrets names what the environment of this command does not hold (empty counts as missing)",
            hint="; ".join(f"export {name}=..." for name in missing),
        )
    return {name: environ[name] for name in names}
