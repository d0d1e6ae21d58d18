"""Any proxy: a command of the user tells it."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

from deployer.errors import PoolError
from deployer.host.pools import calls
from deployer.host.pools.base import UNTOUCHED, ByAddress, preflight


class Command(ByAddress):
    """
    Runs `COMMAND... join ADDRESS`, `COMMAND... leave ADDRESS`, `COMMAND... check ADDRESS...` and, with `counts`,
    `COMMAND... in-flight ADDRESS`, which prints a number. Any exit code but 0 refuses.

    A resumed deploy repeats a call: to join again, or to leave again, must change nothing and succeed.
    Settings: `command`, `counts`, `timeout`.
    """

    def __init__(self, settings: Dict[str, Any], app: str) -> None:
        self._command = list(settings["command"])
        self._counts = bool(settings.get("counts"))
        self._timeout = float(settings["timeout"])
        self._app = app

    def check(self, addresses: Sequence[str]) -> None:
        """The command finds that it could send to *addresses*."""
        try:
            self._run("check", *addresses)
        except PoolError as error:
            raise preflight(error) from error

    def send_to(self, addresses: Sequence[str], leaving: Sequence[str] = ()) -> None:
        """
        Who joins does so before anybody leaves. After a refusal to leave both may take requests: to take the new one out again,
        without knowing what the command did, could leave nobody.
        """
        going = [address for address in leaving if address not in addresses]
        for address in addresses:
            self._ask("join", address, UNTOUCHED)
        for address in going:
            beside = f"{', '.join(addresses)} takes requests beside it" if addresses else UNTOUCHED
            self._ask("leave", address, f"{address} may still take requests; {beside}")

    def in_flight(self, address: str) -> Optional[int]:
        """What `COMMAND... in-flight ADDRESS` printed; None without `counts`, and when it printed no number."""
        if not self._counts:
            return None
        try:
            number = int(self._run("in-flight", address).out.strip())
        except (PoolError, ValueError):
            return None
        return number if number >= 0 else None

    def _ask(self, action: str, address: str, state: str) -> None:
        try:
            self._run(action, address)
        except PoolError as error:
            raise PoolError(error.title, cause=error.cause, state=state, hint=error.hint) from error

    def _run(self, action: str, *addresses: str) -> calls.Said:
        env = {
            "DEPLOYER_APP": self._app,
            "DEPLOYER_POOL_ACTION": action,
            "DEPLOYER_POOL_ADDRESS": " ".join(addresses),
        }
        argv = [*self._command, action, *addresses]
        said = calls.run(argv, self._timeout, env)
        if said.code != 0:
            raise PoolError(
                f"the pool refuses: {' '.join(argv)}",
                cause=f"exit {said.code}: {said.words}",
                hint="mend what it says, or the command itself (`command` in the pool of this target)",
            )
        return said
