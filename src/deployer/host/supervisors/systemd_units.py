"""The text of the units that deployer writes: whole, readable, marked as ours. No I/O."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from deployer.errors import UsageError
from deployer.model import DrainOrder

MARK = "# Written by deployer"
BACKOFF: Dict[str, str] = {"RestartSteps": "8", "RestartMaxDelaySec": "60s"}
DEFAULTS: Dict[str, str] = {"Type": "exec", "RestartSec": "500ms", "UMask": "0022", "TimeoutStartSec": "infinity"}
"""A start takes as long as it takes: whether it is ready we prove ourselves, and systemd would kill one that never says so."""


def service(
    app: str, release: str, argv: Sequence[str], cwd: str, env_file: str, after_main: Sequence[str], output: str,
    order: DrainOrder, settings: Mapping[str, Any], sockets: Sequence[str], olds: Sequence[str], boot: str,
) -> str:  # fmt: skip
    """The unit of one release of *app*. *olds* are units that stop, and have stopped, before this one starts."""
    before = [*sockets, *olds]
    unit: List[Tuple[str, str]] = [("Description", f"{app}, release {release}")]
    unit += [("After", " ".join(["network.target", *before]))]
    unit += [("Wants", " ".join(sockets))] if sockets else []
    unit += [("Conflicts", " ".join(olds))] if olds else []
    unit += [("StartLimitIntervalSec", "0")]
    passed = {**DEFAULTS, "StandardOutput": output, "StandardError": "inherit", **_flat(settings)}
    body: List[Tuple[str, str]] = [
        ("WorkingDirectory", escaped(cwd)), ("EnvironmentFile", escaped(env_file)), ("ExecStart", command(argv)),
        ("ExecStopPost", "-+" + command(after_main)), *stopping(order),
        ("Restart", "on-failure"), ("NonBlocking", "yes"), ("NotifyAccess", "all"),
    ]  # fmt: skip
    body += [("Sockets", " ".join(sockets))] if sockets else []
    for name, value in passed.items():
        body += [(name, one) for one in (value if isinstance(value, list) else [value])]
    return _text(app, [("Unit", unit), ("Service", body), ("Install", [("WantedBy", boot)])])


def stopping(order: DrainOrder) -> List[Tuple[str, str]]:
    """How a unit is asked to stop: its main process once, all of it by force at the ceiling."""
    mode = "control-group" if order.signal_to == "tree" else "mixed"
    found = [("KillMode", mode), ("KillSignal", order.signal), ("TimeoutStopSec", span(order.ceiling))]
    # A death by the very signal that we sent is a clean end, also of those that systemd does not count as one.
    return [*found, ("SuccessExitStatus", order.signal)] if order.signal not in _CLEAN else found


_CLEAN = ("SIGTERM", "SIGINT", "SIGHUP", "SIGPIPE")


def stop_order(app: str, order: DrainOrder, foreign: bool = False) -> str:
    """A drop-in: how long the stop that comes next may take; in a unit that is not ours nothing else is changed."""
    settings = [("TimeoutStopSec", span(order.ceiling))] if foreign else stopping(order)
    return _text(app, [("Service", settings)])


def unproven(app: str) -> str:
    """A drop-in: what has not proven itself is not started again after a crash."""
    return _text(app, [("Service", [("Restart", "no")])])


def socket(app: str, name: str, listen: str, guard: str, olds: Sequence[str] = (), private: bool = False) -> str:
    """
    A socket that outlives every instance. *guard* is what a connection would start where no instance runs: nothing.

    *olds* may have listened there by themselves: it is opened once they have gone.
    """
    body = [("ListenStream", escaped(listen)), ("FileDescriptorName", name), ("Backlog", "4096"), ("Service", guard)]
    body += [("SocketMode", "0600"), ("RemoveOnStop", "yes")] if private else []
    unit = [("Description", f"{app}, socket {name}")]
    unit += [("After", " ".join(olds))] if olds else []
    unit += [("StopWhenUnneeded", "yes")] if private else []
    return _text(app, [("Unit", unit), ("Socket", body)])


def guard(app: str) -> str:
    """A service that does nothing: connections wait for the next instance instead of starting one that was stopped."""
    body = [("Type", "oneshot"), ("RemainAfterExit", "yes"), ("ExecStart", "/bin/true")]
    return _text(
        app, [("Unit", [("Description", f"{app}: connections wait here while no release runs")]), ("Service", body)]
    )


def engine(app: str, argv: Sequence[str], env: Mapping[str, str], log: str, boot: str) -> str:
    """What finishes a deploy that lost its runner, also after a reboot. It goes when nothing is to be done."""
    unit = [("Description", f"{app}: deployer, while a deploy is under way"), ("StartLimitIntervalSec", "0")]
    body = [("Type", "notify"), ("NotifyAccess", "main"), ("ExecStart", command(argv))]
    body += [("Environment", quote(f"{name}={value}")) for name, value in sorted(env.items())]
    body += [("KillMode", "process"), ("Restart", "on-failure"), ("RestartSec", "1s"), ("TimeoutStopSec", "10s")]
    body += [("StandardOutput", f"append:{escaped(log)}"), ("StandardError", "inherit")]
    return _text(app, [("Unit", unit), ("Service", body), ("Install", [("WantedBy", boot)])])


def environment(values: Mapping[str, str]) -> str:
    """
    An EnvironmentFile of *values*, whatever is in them. Raises UsageError where systemd would leave one out.

    It would also write that one into its journal, with its value.
    """
    for name, value in values.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or _surrogates(value):
            raise UsageError(
                f"systemd takes no variable like {name!r}",
                cause="names are letters, digits and _, values are UTF-8", state="nothing was changed",
                hint="rename it in run.env, or have it set by the command: sh -c 'env NAME=… program'",
            )  # fmt: skip
    lines = [f"{name}={_double(value)}" for name, value in sorted(values.items())]
    return "\n".join([f"{MARK}. Secret.", *lines, ""])


def _surrogates(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


def command(argv: Sequence[str]) -> str:
    """*argv* as an Exec line."""
    return " ".join(quote(word.replace("$", "$$")) for word in argv)


def quote(word: str) -> str:
    """*word* as one word of a setting, where specifiers and escapes mean nothing."""
    return (
        escaped(word)
        if word and all(char.isalnum() or char in "-_./:=@,+" for char in word)
        else _double(escaped(word), True)
    )


def span(seconds: float) -> str:
    """*seconds* in systemd's notation."""
    return f"{seconds:g}s" if seconds == int(seconds) and seconds < 1e5 else f"{int(seconds * 1000)}ms"


def _flat(settings: Mapping[str, Any]) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for name, value in settings.items():
        values = value if isinstance(value, list) else [value]
        plain = ["yes" if one is True else "no" if one is False else str(one) for one in values]
        found[name] = plain if isinstance(value, list) else plain[0]
    return found


def mark(app: str) -> str:
    """How the first line of every unit of *app* begins."""
    return f"{MARK} for {app},"


def _text(app: str, sections: Sequence[Tuple[str, Sequence[Tuple[str, str]]]]) -> str:
    lines = [f"{mark(app)} and again by the next push: change deploy.toml instead."]
    for title, settings in sections:
        lines += ["", f"[{title}]", *(f"{name}={value}" for name, value in settings)]
    return "\n".join([*lines, ""])


def escaped(text: str) -> str:
    return text.replace("%", "%%")


def _double(text: str, exec_line: bool = False) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    if exec_line:
        # Every control character: a carriage return would end the line as well.
        return '"' + "".join(f"\\x{ord(char):02x}" if ord(char) < 32 else char for char in quoted) + '"'
    return '"' + quoted.replace("$", "\\$").replace("`", "\\`") + '"'
