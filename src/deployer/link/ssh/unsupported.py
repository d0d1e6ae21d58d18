"""What an ssh config may ask for that paramiko cannot do: refused by name, where passing over it would change who we talk to."""

from __future__ import annotations

from deployer.link.ssh_options import Options

_OFF = ("no", "none", "")
_CANNOT = {
    "knownhostscommand": "paramiko cannot ask a command for host keys",
    "revokedhostkeys": "paramiko cannot read revocation lists",
    "bindinterface": "paramiko cannot choose an interface",
    "canonicalizehostname": "paramiko cannot canonicalize names",
    "proxyusefdpass": "paramiko cannot take a connection from a proxy command",
}


def refuse(options: Options) -> None:
    """Return when paramiko can do all that *options* ask for. Raises PreflightError, which names the option."""
    for name, why in _CANNOT.items():
        if (options.found.text(name) or "no").lower() not in _OFF:
            raise options.wrong(name, why)
