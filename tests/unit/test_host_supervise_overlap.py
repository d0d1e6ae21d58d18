"""The keeper's mind in an overlap, on real processes: on trial beside the old one, then the service, whoever dies in between."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from test_host_supervise import SLEEP, STAY, Host, end, host  # noqa: F401 - a fixture

from app import free_port, wait_until
from deployer.errors import FailedError
from deployer.host.supervise import Core
from deployer.model import DrainOrder


def settle(core: Core) -> None:
    core.reap()
    core.advance()


def wanted(core: Core) -> str | None:
    row = core.desired()
    return row["id"] if row else None


def overlap(host: Host) -> Core:  # noqa: F811
    """An old instance that serves, and a new one on trial beside it."""
    core = host.keeper()
    core.replace("d1", "me", host.spec("old", STAY, overlap=True), DrainOrder(), confirmed=True)
    core.advance()
    core.launch("d2", host.spec("new", STAY, overlap=True))
    core.advance()
    assert set(core.instances) == {"old", "new"} and wanted(core) == "old"
    wait_until(lambda: host.log().count("up") == 2, what="both have their handlers")
    return core


def test_launched_instance_runs_beside_the_old_one_which_stays_the_service(host: Host) -> None:  # noqa: F811
    core = overlap(host)
    core.launch("d2", host.spec("new", STAY, overlap=True))  # asked again
    core.advance()
    assert len(core.instances) == 2 and not core.drains
    assert host.row("new")["confirmed"] == 0


def test_launched_instance_that_crashes_stays_gone(host: Host) -> None:  # noqa: F811
    core = overlap(host)
    os.kill(host.row("new")["pid"], signal.SIGKILL)
    wait_until(lambda: settle(core) or "new" not in core.instances, what="it is seen to have gone")
    settle(core)
    assert set(core.instances) == {"old"} and core.record_of("new")["state"] == "ended"
    with pytest.raises(FailedError):
        core.retire("d2", "me", "new", DrainOrder())
    assert not core.drains


def test_retired_instance_drains_while_the_new_one_is_the_service(host: Host) -> None:  # noqa: F811
    core = overlap(host)
    core.retire("d2", "me", "new", DrainOrder(ceiling=60.0))
    settle(core)
    core.retire("d2", "me", "new", DrainOrder(ceiling=60.0))  # asked again
    settle(core)
    assert wanted(core) == "new" and host.row("new")["confirmed"] == 1
    assert set(core.drains) == {"old"}
    wait_until(lambda: host.log().count("heard") == 1, what="the old one has got its signal")
    os.kill(host.row("new")["pid"], signal.SIGKILL)  # and the service is back at once, though the old one still drains
    back = lambda: settle(core) or wanted(core) in {*core.instances} - {"old", "new"}  # noqa: E731
    wait_until(back, what="the new release is back")
    assert "old" in core.instances
    assert host.log().count("heard") == 1


def test_dismissed_instance_goes_and_the_old_one_never_hears_of_it(host: Host) -> None:  # noqa: F811
    core = overlap(host)
    core.dismiss("d2", "me", "new", DrainOrder(ceiling=0.2))
    core.dismiss("d2", "me", "new", DrainOrder(ceiling=0.2))
    wait_until(lambda: settle(core) or "new" not in core.instances, what="it has gone")
    assert set(core.instances) == {"old"} and wanted(core) == "old"
    with pytest.raises(FailedError):
        core.dismiss("d2", "me", "old", DrainOrder())


@pytest.mark.parametrize("died", ["launched", "retired", "promised"])
def test_next_keeper_goes_on_from_the_record(host: Host, died: str) -> None:  # noqa: F811
    if died == "promised":
        core = host.keeper()
        core.replace("d1", "me", host.spec("old", SLEEP, overlap=True), DrainOrder(), confirmed=True)
        core.advance()
        core.launch("d2", host.spec("new", SLEEP, overlap=True))
    else:
        core = overlap(host)
    if died == "retired":
        core.retire("d2", "me", "new", DrainOrder(ceiling=60.0))
    pids = {name: host.row(name)["pid"] for name in ("old", "new")}
    core = host.keeper()
    settle(core)
    assert set(core.instances) == {"old", "new"}
    assert wanted(core) == ("new" if died == "retired" else "old")
    assert set(core.drains) == ({"old"} if died == "retired" else set())
    assert host.row("old")["pid"] == pids["old"] and pids["new"] in (None, host.row("new")["pid"])


def test_held_socket_is_let_go_once_nobody_needs_it(host: Host) -> None:  # noqa: F811
    first, second = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    core = host.keeper()
    core.replace("d1", "me", host.spec("old", STAY, overlap=True, socket=first), DrainOrder(), confirmed=True)
    core.advance()
    core.launch(
        "d2",
        host.spec("new", STAY, overlap=True, socket=[["http", second], ["admin", f"unix:{host.paths.run}/a.sock"]]),
    )
    core.advance()
    assert len(core.held.items()) == 3
    wait_until(lambda: host.log().count("up") == 2, what="both have their handlers")
    core.retire("d2", "me", "new", DrainOrder(ceiling=0.0))
    wait_until(lambda: settle(core) or "old" not in core.instances, what="the old one has gone")
    settle(core)
    assert {address for address, _ in core.held.items()} == {second, f"unix:{host.paths.run}/a.sock"}
    core.replace("d3", "me", None, DrainOrder(ceiling=0.0))
    wait_until(lambda: settle(core) or not core.instances, what="nothing runs")
    settle(core)
    assert not core.held.items() and not Path(host.paths.run, "a.sock").exists()


def test_socket_of_a_process_that_listens_by_itself_is_taken_over(host: Host) -> None:  # noqa: F811
    address = f"127.0.0.1:{free_port()}"
    host_name, _, number = address.rpartition(":")
    code = f"import socket, time; s = socket.create_server(({host_name!r}, {number})); time.sleep(60)"
    core = host.start("old", code)
    port = int(address.rpartition(":")[2])
    wait_until(lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None, what="the old one listens")
    core.launch("d2", host.spec("new", SLEEP, overlap=True, socket=address))
    core.advance()
    end(host.row("old")["pid"])
    socket.create_connection(("127.0.0.1", port), 1).close()  # the new one and the keeper have it still
    assert any("took the listening socket" in line for line in host.said)


@pytest.mark.parametrize("part, again", [("job", False), ("cache", True), (None, True)])
def test_job_that_may_have_been_begun_is_never_begun_again(host: Host, part: str | None, again: bool) -> None:  # noqa: F811
    core = host.keeper()
    core.launch("d1", host.spec("new", STAY, part=part))
    # Its keeper has died between the fork and the line that it runs; since then there was a reboot.
    host.state.update("instances", "new", pid=2**22 - 1, start=1, boot="another")
    core = host.keeper()
    core.advance()
    assert (host.row("new")["state"] == "running") == again
    assert again or host.row("new")["state"] == "ended"
