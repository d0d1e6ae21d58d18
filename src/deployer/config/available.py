"""What `deploy.toml` can say already and deployer cannot do yet: refused before anything is touched."""

from __future__ import annotations

from collections.abc import Callable

from deployer.config.model import Config
from deployer.errors import UsageError

# A feature that arrives deletes its line.
_NOT_YET: tuple[tuple[Callable[[Config], bool], str, str, str], ...] = (
    (
        lambda c: c.supervisor == "launchd" and bool(c.tables.run.socket),
        "run.socket",
        "a socket that launchd holds: it gives one only to programs that call launch_activate_socket",
        'write ports = [3001, 3002] in [run] instead, or supervisor = "builtin" in [target.{t}]',
    ),
    (
        lambda c: c.supervisor == "launchd" and c.tables.health.private,
        "health.private",
        "a private socket for /health under launchd",
        'remove private from [health], or write supervisor = "builtin" in [target.{t}]',
    ),
    (
        lambda c: c.supervisor != "builtin" and c.batch is None and bool(c.settings()["services"]),
        "services",
        "[services] beside [run] under another supervisor than ours",
        'write supervisor = "builtin" in [target.{t}], or remove [services]',
    ),
)


def require_available(config: Config) -> None:
    """Return when this version can do all that *config* asks for; UsageError naming what it cannot otherwise."""
    if config.ray is not None:
        raise _refusal(
            "this command is not available on a Ray target",
            f"target.{config.target_name} is the Ray cluster at {config.ray}; its actors have no host",
            "push, plan, status, attach, stop, restart and doctor work there; `ray logs actor` has the output",
        )
    for asked, key, what, hint in _NOT_YET:
        if asked(config):
            cause = f"{config.file}: {key.format(t=config.target_name)}"
            raise _refusal(f"{what}: not available in this version", cause, hint.format(t=config.target_name))


def require_service(config: Config) -> None:
    """Return when *config* has a service that runs on and on. Raises UsageError where all it has is a job."""
    if config.batch is not None:
        cause = f"{config.file} has [job] and no [run]"
        raise _refusal("there is no service here, only a job", cause, "run the job: deployer run")


def _refusal(title: str, cause: str, hint: str) -> UsageError:
    return UsageError(title, cause=cause, state="nothing was touched", hint=hint)
