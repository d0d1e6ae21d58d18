"""The `deployer` command: answers `--version` alone, hands all else to the command line."""

from __future__ import annotations

import sys

from deployer import __version__


def main() -> None:
    """Run the command line of this process. `--version` alone costs no import: scripts ask it often."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        sys.stdout.write(f"deployer {__version__}\n")
        return
    from deployer.cli.app import main as run

    run()
