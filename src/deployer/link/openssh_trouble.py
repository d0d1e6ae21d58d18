"""What `ssh` meant by what it said on stderr, as the errors of the other client. It speaks English in every locale."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

from deployer.errors import DeployerError, LinkError, PreflightError
from deployer.link import known_hosts, refusals
from deployer.link.openssh_words import Words
from deployer.link.refusals import UNTOUCHED

_CHANGED = re.compile(r"REMOTE HOST IDENTIFICATION HAS CHANGED")
_OFFENDING = re.compile(r"Offending (\S+) key in (\S.*:\d+)")
_SHOWN = re.compile(r"(SHA256:\S+?)\.?\s")
_REVOKED = re.compile(r"REVOKED HOST KEY|marked as revoked", re.IGNORECASE)
_UNKNOWN = re.compile(r"No \S+ host key is known for \S+ and you have requested strict checking")
_REFUSED_US = re.compile(r"(?:(\S+)@\S+: )?Permission denied \(([^)]*)\)")
_UNRESOLVED = re.compile(r"Could not resolve hostname (\S+): (.*)")
_DROPPED = re.compile(
    r"kex_exchange_identification|ssh_exchange_identification|banner exchange: Connection .* closed"
    r"|Connection (?:closed|reset) by|Exceeded MaxStartups|Not allowed at this time"
)
LEARN_WITHIN = 15.0


def explained(said: str, host: str, words: Words, timeout: float | None) -> DeployerError:
    """The error behind *said*, the last words of an `ssh` that failed to get to *host*."""
    return _host_key(said, host, words) or _login(said, host) or _way(said, host, words.where, timeout)


def _host_key(said: str, host: str, words: Words) -> DeployerError | None:
    if _REVOKED.search(said):
        return refusals.revoked_key(host, None, _last(said))
    if _CHANGED.search(said):
        return _changed(said, host)
    if "Host key verification failed" not in said:
        return None
    line = learn(words) if _UNKNOWN.search(said) else None
    if line is None:  # ssh does not say whose: a jump host's is checked by a child of its own
        return PreflightError(
            f"{host}: the host key of its jump host is not known", cause=said[-500:], state=UNTOUCHED,
            hint="log in to the jump host once by hand, compare the fingerprint, and take its key",
        )  # fmt: skip
    name, type, key = line
    files = words.options.known_hosts if words.options else [Path.home() / ".ssh" / "known_hosts"]
    return refusals.unknown_key(host, [name], files, type, key)


def _changed(said: str, host: str) -> PreflightError:
    offending, shown = _OFFENDING.search(said), _SHOWN.search(said + "\n")
    error = refusals.changed_key(host, offending[2] if offending else None, offending[1] if offending else "", None)
    if shown and offending:
        error.cause = f"it shows {shown[1]}, and {offending[2]} has another key for it"
    return error


def learn(words: Words) -> tuple[str, str, str] | None:
    """The name, type and key that the host shows, for a line in known_hosts; None where it cannot be had. Logs in to nothing."""
    with tempfile.TemporaryDirectory(prefix="deployer-ssh-") as directory:
        file = Path(directory) / "known_hosts"
        argv = words.argv(
            "true", f"UserKnownHostsFile={str(file).replace('%', '%%')}", "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=accept-new", "HashKnownHosts=no", "PreferredAuthentications=none",
        )  # fmt: skip
        try:
            subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=LEARN_WITHIN, start_new_session=True,
                env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        found = known_hosts.read([file])
        return (found[0].names.split(",")[0], found[0].type, found[0].key) if found else None


def _login(said: str, host: str) -> DeployerError | None:
    denied = _REFUSED_US.search(said)
    if denied:
        wants = [] if "publickey" in denied[2] else [f"it asks for {denied[2]}, and deployer never types passwords"]
        rest = [line for line in said.splitlines() if denied[0] not in line]
        cause = "; ".join([*(wants or ["none of our keys was accepted"]), *rest[-3:]])
        return refusals.login_refused(host, denied[1] or "our user", cause)
    if "Too many authentication failures" in said:
        hint = "where an agent holds many keys: IdentityFile and IdentitiesOnly yes for this host in the ssh config"
        return refusals.login_refused(host, "our user", _last(said), hint)
    if "Unable to negotiate" in said:
        return refusals.disagreed(host, _last(said))
    if "Bad configuration option" in said or "bad configuration" in said or "Can't open user config file" in said:
        return PreflightError(
            f"ssh cannot read the config for {host}", cause=said[-500:], state=UNTOUCHED, hint="mend the ssh config"
        )
    return None


def _way(said: str, host: str, where: str, timeout: float | None) -> LinkError:
    unresolved = _UNRESOLVED.search(said)
    if unresolved:
        return refusals.unresolvable(host, unresolved[1], unresolved[2])
    if "Connection refused" in said:
        return refusals.refused(host, where)
    if "timed out" in said:
        return refusals.timed_out(host, where, timeout)
    if _DROPPED.search(said) and "UNKNOWN port" not in said:
        return refusals.dropped(host, _last(said))
    return refusals.unreachable(host, where, said[-500:] or "ssh ended without a word")


def _last(said: str) -> str:
    return said.splitlines()[-1] if said else ""
