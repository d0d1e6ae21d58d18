"""
`deployer.jobs` for a program of a release: the engine's own copy, beside whatever else of `deployer` the release brings.

Loaded by its file, standard library only.
"""

from __future__ import annotations

import os
import sys


def reach() -> None:
    """From here on `import deployer.jobs` finds the engine's; `deployer.lifecycle` and the like are those of the release."""
    engine = os.path.abspath(f"{__file__}/../../../..")
    others = [f"{path or '.'}/deployer" for path in sys.path]
    sys.path.insert(1, engine)
    import deployer

    own = f"{engine}/deployer"
    deployer.__path__ = [own, *(path for path in others if os.path.isdir(path) and path != own)]
