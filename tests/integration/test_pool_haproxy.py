"""HAProxy as a pool: switched under load without a loss; what refuses changes nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from proxies import Backend, Proxy, get, running, switches, two_backends

from app import free_port, wait_until
from deployer.errors import PoolError, PreflightError
from deployer.host import unix
from deployer.host.pools.haproxy import HAProxy
from openload import Load, Place
from parts import need

CONFIG = """
global
    stats socket {root}/admin.sock mode 600 level {level}
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend front
    bind 127.0.0.1:{port}
    default_backend app
backend app
    {more}
    {servers}
"""


@contextmanager
def haproxy(root: Path, servers: list[str], level: str = "admin", more: str = "", port: int = 0) -> Iterator[Proxy]:
    need("haproxy")
    root.mkdir(exist_ok=True)
    port = port or free_port()
    lines = "\n    ".join(f"server {server}" for server in servers)
    text = CONFIG.format(root=root, level=level, port=port, servers=lines, more=more)
    (root / "haproxy.cfg").write_text(text)
    with running(["haproxy", "-db", "-W", "-f", "haproxy.cfg"], root, port) as proxy:
        wait_until(lambda: asked(root, "show info"), what="haproxy answers on its socket")
        yield proxy


def servers(backends: tuple[Backend, Backend]) -> list[str]:
    blue, green = backends
    return [f"blue {blue.address} check inter 50ms", f"green {green.address} check inter 50ms disabled"]


def pool(root: Path, **more: object) -> HAProxy:
    settings = {"kind": "haproxy", "socket": str(root / "admin.sock"), "backend": "app", "timeout": 10.0}
    return HAProxy({**settings, **more}, "app")


def asked(root: Path, command: str) -> list[str]:
    with unix.connect(root / "admin.sock", 5) as link:
        link.sendall(command.encode() + b"\n")
        return list(link.makefile())


def states(root: Path) -> dict[str, str]:
    """What is ordered of each server, asked past the pool."""
    rows = [line.split() for line in asked(root, "show servers state app") if " " in line and line[0] != "#"]
    ordered = {row[3]: int(row[6]) for row in rows}  # 1: maint, 8: drain; others are the config's
    return {name: "maint" if bits & 1 else "drain" if bits & 8 else "ready" for name, bits in ordered.items()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "haproxy"


@pytest.fixture
def backends() -> Iterator[tuple[Backend, Backend]]:
    with two_backends() as two:
        yield two


def test_switches_under_load_lose_nothing(root: Path, backends: tuple[Backend, Backend]) -> None:
    with haproxy(root, servers(backends)) as proxy:
        sends = pool(root)
        sends.check([backend.address for backend in backends])
        with Load(Place(proxy.port)) as load:
            switches(sends, load, backends)
        assert (dict(load.losses), load.closed) == ({}, 0)


def test_the_switch_outlives_a_reload(root: Path, backends: tuple[Backend, Backend]) -> None:
    blue, green = backends
    green.start()
    state = root / "state" / "app.state"
    state.parent.mkdir(parents=True)
    more = f"load-server-state-from-file local\n    server-state-file-name {state}"
    with haproxy(root, servers(backends), more=more) as proxy:
        sends = pool(root, state_file=str(state))
        sends.check([green.address])
        sends.send_to([green.address], [blue.address])
        assert states(root) == {"blue": "drain", "green": "ready"}
        workers = children(proxy)
        reload(proxy, workers)
        wait_until(lambda: states(root) == {"blue": "drain", "green": "ready"}, what="the state was read")
        assert {get(proxy.port) for _ in range(4)} == {"green"}


def reload(proxy: Proxy, workers: set[str]) -> None:
    """Reload until it is done: HAProxy's master can miss a signal while it still starts up."""
    for _ in range(4):
        proxy.process.send_signal(signal.SIGUSR2)
        with suppress(AssertionError):
            wait_until(lambda: children(proxy) - workers and not children(proxy) & workers, within=10)
            return
    raise AssertionError(f"haproxy has no new worker but {children(proxy)} after {workers}: {proxy.told()}")


def children(proxy: Proxy) -> set[str]:
    pid = proxy.process.pid
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def test_a_slot_is_given_the_address(root: Path, backends: tuple[Backend, Backend]) -> None:
    blue, green = backends
    green.start()
    with haproxy(root, [f"slot1 {blue.address}", "slot2 127.0.0.1:1 disabled"]) as proxy:
        sends = pool(root, servers={blue.address: "slot1", green.address: "slot2"})
        sends.check([blue.address, green.address])
        for _ in range(2):  # again, as a resumed deploy does
            sends.send_to([green.address], [blue.address])
            assert states(root) == {"slot1": "drain", "slot2": "ready"}
            assert {get(proxy.port) for _ in range(4)} == {"green"}


def test_a_server_that_is_not_found_up_is_taken_out_again(root: Path, backends: tuple[Backend, Backend]) -> None:
    blue, green = backends  # green does not run
    with haproxy(root, [f"blue {blue.address} check", f"green {green.address} check inter 50ms"]) as proxy:
        pool(root).send_to([], [green.address])
        wait_until(lambda: pool(root)._socket.stat("app", "green")["check_status"] == "L4CON", what="green is down")
        with pytest.raises(PoolError, match="does not find app/green up within 0") as caught:
            pool(root, timeout=0.3).send_to([green.address], [blue.address])
        assert "L4CON" in str(caught.value.cause)
        assert states(root) == {"blue": "ready", "green": "drain"}
        assert get(proxy.port) == "blue"


def test_in_flight_is_what_haproxy_counts(root: Path, backends: tuple[Backend, Backend]) -> None:
    blue, green = backends
    with haproxy(root, servers(backends)) as proxy, Load(Place(proxy.port), fresh_rate=1, kept=0) as load:
        waiting = [load.slow(1.5) for _ in range(3)]
        wait_until(lambda: pool(root).in_flight(blue.address) == 3, what="three are in flight")
        assert pool(root).in_flight(green.address) == 0
        assert pool(root).in_flight("127.0.0.1:9") is None
        assert [one.result(10) for one in waiting] == ["blue"] * 3


def test_clients_that_are_bound_to_a_server_leave_it_under_maint(root: Path, backends: tuple[Backend, Backend]) -> None:
    blue, green = backends
    green.start()
    more = "cookie BACKEND insert"
    lines = [f"blue {blue.address} cookie b", f"green {green.address} cookie g"]
    with haproxy(root, lines, more=more) as proxy:
        bound = {"Cookie": "BACKEND=b"}
        pool(root).send_to([green.address], [blue.address])
        assert get(proxy.port, bound) == "blue", "a draining server keeps its own: what `leave` is for"
        pool(root, leave="maint").send_to([green.address], [blue.address])
        assert get(proxy.port, bound) == "green"


@pytest.mark.parametrize(
    "more, title",
    [
        ({"socket": "/nowhere/admin.sock"}, "could not be asked"),
        ({"socket": "127.0.0.1:1"}, "could not be asked"),
        ({"backend": "other"}, "no backend other"),
        ({"servers": {"127.0.0.1:7": "red"}}, "no server for red"),
        ({}, "no server for 127.0.0.1:7"),
        ({"state_file": "/nowhere/app.state"}, "/nowhere/app.state cannot be written"),
    ],
)
def test_what_is_not_as_the_config_says_is_told_and_changes_nothing(
    root: Path, backends: tuple[Backend, Backend], more: dict[str, object], title: str
) -> None:
    blue, _ = backends
    with haproxy(root, servers(backends)):
        before = states(root)
        wanted = [blue.address] if "state_file" in more else ["127.0.0.1:7"]
        with pytest.raises(PreflightError, match=title) as caught:
            pool(root, **more).check(wanted)
        assert caught.value.state == "nothing was changed" and caught.value.hint
        with pytest.raises(PoolError):
            pool(root, **more).send_to(wanted, [blue.address])
        assert states(root) == before


def test_a_socket_that_may_only_look_is_refused(root: Path, backends: tuple[Backend, Backend]) -> None:
    blue, green = backends
    with haproxy(root, servers(backends), level="operator"):
        with pytest.raises(PreflightError, match="level operator") as caught:
            pool(root).check([blue.address])
        assert "level admin" in caught.value.hint
        with pytest.raises(PoolError, match="refuses"):
            pool(root).send_to([green.address], [blue.address])
        assert states(root) == {"blue": "ready", "green": "maint"}
