"""The command line of the system's `ssh`."""

from __future__ import annotations

import pytest

from deployer.link.address import Address
from deployer.link.dial import Ssh
from deployer.link.openssh_words import Words


@pytest.mark.parametrize("silent_after", [2.0, 5.0, 15.0])
def test_ssh_gives_a_silent_host_up_only_well_after_we_have_noticed(silent_after: float) -> None:
    words = Words(Address.parse("web1"), Ssh(client="openssh", silent_after=silent_after), None)
    try:
        given = dict(word.split("=", 1) for word in words.argv("true") if word.startswith("ServerAlive"))
    finally:
        words.close()
    assert int(given["ServerAliveInterval"]) * int(given["ServerAliveCountMax"]) >= 2 * silent_after
