"""Why a host could not be logged in to, told alike by both SSH clients. Nothing has been changed in any of these cases."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Sequence
from pathlib import Path

from deployer.errors import LinkError, PreflightError
from deployer.link import known_hosts

UNTOUCHED = "nothing was changed"
SCARCE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.EROFS)
"""What this machine has run out of, whatever is asked of it."""


class Dropped(LinkError):
    """The server took the connection and let it fall before anybody logged in: too many at once (MaxStartups). Worth a retry."""


def scarce(title: str, error: OSError) -> PreflightError:
    """*error* is this machine's own."""
    hint = "this machine ran out of open files or processes: raise `ulimit -n` or `ulimit -u`"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        hint = "make room for temporary files on this machine, or name another place by TMPDIR"
    elif error.errno == errno.ENOMEM:
        hint = "this machine ran out of memory"
    return PreflightError(title, cause=str(error), state=UNTOUCHED, hint=hint)


def dropped(host: str, cause: str) -> Dropped:
    return Dropped(
        f"{host} dropped the connection before the login", cause=cause, state=UNTOUCHED,
        hint="its sshd may have too many logins at once (MaxStartups), or may refuse this address",
    )  # fmt: skip


def unreachable(host: str, where: str, cause: str) -> LinkError:
    hint = "look at the network between here and there, and at the ssh config's HostName, Port and ProxyJump"
    return LinkError(f"{host} could not be reached", cause=f"{where}: {cause}", state=UNTOUCHED, hint=hint)


def refused(host: str, where: str) -> LinkError:
    hint = "is sshd running there, and is this its port?"
    return LinkError(f"{host} refused the connection", cause=f"{where}: connection refused", state=UNTOUCHED, hint=hint)


def timed_out(host: str, where: str, seconds: float | None) -> LinkError:
    within = f" within {seconds:g} s" if seconds is not None else ""
    hint = "a firewall may drop what we send; [target.….ssh] connect_timeout gives it longer"
    return LinkError(f"{host} does not answer", cause=f"{where}: nothing{within}", state=UNTOUCHED, hint=hint)


def unresolvable(host: str, name: str, cause: str) -> LinkError:
    hint = "mend the name in `hosts`, or the HostName in the ssh config"
    return LinkError(f"{host}: no such host", cause=f"{name}: {cause}", state=UNTOUCHED, hint=hint)


def no_server(host: str, cause: str) -> LinkError:
    return LinkError(f"{host} does not speak SSH", cause=cause, state=UNTOUCHED, hint="is this sshd's port?")


def disagreed(host: str, cause: str) -> PreflightError:
    hint = 'client = "openssh" may know what the server wants'
    return PreflightError(
        f"{host} and this client have no algorithm in common", cause=cause, state=UNTOUCHED, hint=hint
    )


def login_refused(host: str, user: str, cause: str, hint: str | None = None) -> PreflightError:
    return PreflightError(
        f"{host} refused the login of {user}", cause=cause, state=UNTOUCHED,
        hint=hint or f"put the public key into ~{user}/.ssh/authorized_keys there, or name the right IdentityFile here",
    )  # fmt: skip


# Host keys -----------------------------------------------------------------------------------------------------------


def unknown_key(host: str, names: Sequence[str], files: Sequence[Path], type: str, key: str) -> PreflightError:
    line = shlex.quote(f"{names[0]} {type} {key}")
    file = _short(files[0]) if files else "~/.ssh/known_hosts"
    return PreflightError(
        f"the host key of {host} is not known",
        cause=f"it shows {type} {known_hosts.fingerprint(key)}",
        state=UNTOUCHED,
        hint=f"compare that with the host's own `ssh-keygen -lf /etc/ssh/ssh_host_…_key.pub`; if it is the same:\n"
        f"echo {line} >> {file}",
    )


def changed_key(host: str, place: str | None, type: str, key: str | None) -> PreflightError:
    shows = f"it shows {type} {known_hosts.fingerprint(key)}" if key else f"it shows another {type} key"
    return PreflightError(
        f"the host key of {host} has changed",
        cause=f"{shows}, and {place or 'known_hosts'} has another key for it",
        state=UNTOUCHED,
        hint="somebody may be in between. If the host was made anew, remove that line, and log in once more",
    )


def revoked_key(host: str, place: str | None, type: str) -> PreflightError:
    return PreflightError(
        f"the host key of {host} was revoked", cause=f"{place or 'known_hosts'}: @revoked {type}", state=UNTOUCHED,
        hint="whoever has this key is not to be trusted; give the host a new one",
    )  # fmt: skip


def authority(host: str, place: str | None) -> PreflightError:
    return PreflightError(
        f"the host key of {host} is vouched for by a certificate authority",
        cause=f"{place}: @cert-authority, which paramiko cannot check", state=UNTOUCHED,
        hint='write client = "openssh" in [target.….ssh], or add the plain host key to known_hosts',
    )  # fmt: skip


def _short(file: Path) -> str:
    """*file* as a shell takes it, with ~ where it can stand."""
    try:
        return f"~/{shlex.quote(str(file.relative_to(Path.home())))}"
    except ValueError:
        return shlex.quote(str(file))
