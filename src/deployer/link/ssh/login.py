"""From a connected socket to a login: algorithms, the host's key, ours."""

from __future__ import annotations

import base64
from typing import Any

from deployer.errors import PreflightError
from deployer.link import known_hosts, refusals
from deployer.link.known_hosts import Standing
from deployer.link.ssh import algorithms
from deployer.link.ssh.keys import Agent, Candidates
from deployer.link.ssh.lib import paramiko
from deployer.link.ssh_config import SYSTEM, Value
from deployer.link.ssh_options import Options

AUTH_WITHIN = 60.0
"""Seconds that a server may take to look at one key."""
_OTHER_WAYS = ("gssapiauthentication", "pkcs11provider", "securitykeyprovider", "hostbasedauthentication")
_TOO_MANY = "Too many authentication failures"


def log_in(sock: Any, options: Options, host: str, timeout: float, accept_new: bool) -> paramiko.Transport:
    """
    A transport that is logged in to *host* over *sock*, which it closes with itself; *timeout* is for the handshake.

    Raises PreflightError or LinkError; `refusals.Dropped` where another attempt makes sense.
    """
    try:
        transport = paramiko.Transport(sock)
    except BaseException:
        sock.close()
        raise
    transport.banner_timeout = transport.handshake_timeout = timeout
    transport.auth_timeout = AUTH_WITHIN
    transport.daemon = True
    try:
        entries = known_hosts.read(options.known_hosts)
        algorithms.offer(transport, options, known_hosts.types(entries, options.known_as))
        _shake_hands(transport, host, options, timeout)
        _check(transport, entries, options, host, accept_new)
        _authenticate(transport, options, host)
    except BaseException:
        transport.close()
        sock.close()
        raise
    return transport


def _shake_hands(transport: paramiko.Transport, host: str, options: Options, timeout: float) -> None:
    try:
        transport.start_client(timeout=timeout)
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise refusals.disagreed(host, str(error)) from error
    except paramiko.SSHException as error:
        text = str(error)
        if "protocol version" in text:
            raise refusals.no_server(host, text) from error
        if transport.remote_version and "timed out" not in text.lower():
            raise refusals.dropped(host, f"{options.where}: {text or 'it closed the connection'}") from error
        raise _unspoken(error, text, host, options, timeout) from error
    except (EOFError, OSError) as error:
        raise refusals.dropped(host, f"{options.where}: {error or 'it closed the connection'}") from error
    except Exception as error:  # paramiko hands on whatever its thread met in what the server sent
        raise refusals.no_server(host, f"{options.where}: {type(error).__name__}: {error}") from error
    if not transport.initial_kex_done:
        raise refusals.timed_out(host, options.where, timeout)


def _unspoken(error: Exception, text: str, host: str, options: Options, timeout: float) -> Exception:
    """There was no banner: nobody spoke, or it hung up first."""
    silent = "timed out" in text.lower() or isinstance(error.__context__, TimeoutError)
    if silent:
        return refusals.timed_out(host, options.where, timeout)
    return refusals.dropped(host, f"{options.where}: it closed the connection without a word")


# The host's key ------------------------------------------------------------------------------------------------------


def _check(
    transport: paramiko.Transport, entries: list[known_hosts.Entry], options: Options, host: str, accept_new: bool
) -> None:
    shown = transport.get_remote_server_key()
    type, key = shown.get_name(), base64.b64encode(shown.asbytes()).decode()
    standing, place = known_hosts.judge(entries, options.known_as, type, key)
    if standing is Standing.REVOKED:
        raise refusals.revoked_key(host, place, type)
    if standing is Standing.CHANGED:
        raise refusals.changed_key(host, place, type, key)
    if standing is Standing.AUTHORITY:
        raise refusals.authority(host, place)
    if standing is Standing.UNKNOWN:
        if not accept_new:
            raise refusals.unknown_key(host, options.known_as, options.known_hosts, type, key)
        _remember(options, host, f"{options.known_as[0]} {type} {key}")


def _remember(options: Options, host: str, line: str) -> None:
    if not options.known_hosts:
        raise options.wrong("userknownhostsfile", "there is no file that a new host key could be written to")
    file = options.known_hosts[0]
    try:
        known_hosts.add(file, line)
    except OSError as error:
        raise PreflightError(
            f"the host key of {host} could not be written down", cause=f"{file}: {error.strerror}",
            state=refusals.UNTOUCHED, hint="make it writable, or add the key yourself",
        ) from error  # fmt: skip


# Ours ----------------------------------------------------------------------------------------------------------------


def _authenticate(transport: paramiko.Transport, options: Options, host: str) -> None:
    if options.found.text("pubkeyauthentication") == "no":
        raise options.wrong("pubkeyauthentication", "paramiko logs in by keys here, and by nothing else")
    agent = Agent(options.agent) if options.agent else None
    try:
        candidates = Candidates(options, agent)
        tried, wants = 0, ["publickey"]
        for key in candidates:
            tried += 1
            try:
                wants = transport.auth_publickey(options.user, key)
                if not wants:
                    return
            except paramiko.BadAuthenticationType as error:
                raise _no_keys_wanted(host, options, error.allowed_types) from error
            except paramiko.AuthenticationException:
                if not transport.is_active():
                    raise _closed(host, options, tried) from None
            except (paramiko.SSHException, EOFError, OSError):
                raise _closed(host, options, tried) from None
            except Exception as error:  # as in the handshake
                raise refusals.no_server(host, f"{options.where}: {type(error).__name__}: {error}") from error
        raise _refused(host, options, tried, candidates.troubles, wants)
    finally:
        if agent is not None:
            agent.close()


def _refused(host: str, options: Options, tried: int, troubles: list[str], wants: list[str]) -> PreflightError:
    if "publickey" not in wants:
        return _no_keys_wanted(host, options, wants)
    count = "no key to try" if not tried else "none of our keys" if tried > 1 else "not our key"
    causes = [f"{count} was accepted" if tried else count, *troubles]
    others = [f"{value.place}: {name}" for name, value in _other_ways(options)]
    hint = None
    if others:
        hint = f'client = "openssh" can do what paramiko cannot ({", ".join(others)}); or give this user a key'
    elif any("security key" in trouble or "paramiko cannot" in trouble for trouble in troubles):
        hint = 'write client = "openssh" in [target.….ssh] for these, or use another key'
    return refusals.login_refused(host, options.user, "; ".join(causes), hint)


def _other_ways(options: Options) -> list[tuple[str, Value]]:
    """What else the config would have tried. What a distribution turns on for everybody is nobody's choice."""
    found = [(name, options.found.first[name]) for name in _OTHER_WAYS if name in options.found.first]
    return [
        (name, value)
        for name, value in found
        if value.text.lower() not in ("no", "none") and not value.place.startswith(str(SYSTEM.parent))
    ]


def _no_keys_wanted(host: str, options: Options, wants: list[str]) -> PreflightError:
    cause = f"it asks for {', '.join(wants)}, and deployer never types passwords"
    return refusals.login_refused(host, options.user, cause, "let this user log in with a key alone")


def _closed(host: str, options: Options, tried: int) -> PreflightError:
    hint = "where an agent holds many keys: IdentityFile and IdentitiesOnly yes for this host in the ssh config"
    return refusals.login_refused(host, options.user, f"it closed the connection after {tried} keys", hint)
