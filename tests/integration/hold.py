"""A client of its own process that opens a deploy on a host and then does nothing for ever: `hold.py CLIENT HOST SILENT_AFTER`."""

from __future__ import annotations

import sys
import time

from facts import OPEN, target

from deployer.link.address import Address
from deployer.link.dial import Ssh, dial
from deployer.link.session import Session

client, host, silent = sys.argv[1], sys.argv[2], float(sys.argv[3])
session = Session(
    host, dial(Address.parse(host), "~/app", Ssh(client=client, heartbeat=0.2, silent_after=silent), None)
)
session.hello("~/app")
session.call("open", deploy="held", target=target(host), **OPEN)
print("held", flush=True)
time.sleep(1000)
