"""What a push brings to its hosts: the artifact, opened once, and the name of the release on each of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from deployer.artifact import Artifact
from deployer.config.model import Config
from deployer.manifest import release_digest, release_id
from deployer.rollout.own_files import own_files

Facts = Mapping[str, Any]


@dataclass
class Content:
    """The opened artifact and the settings that make one release of it; `asked` is the name that a person gave it."""

    opened: Artifact
    config: Config
    asked: str | None = None
    digest: str = field(init=False)
    service_files: dict[str, str] = field(init=False)
    _made: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.digest = release_digest(self.opened.manifest.digest, self.config.settings())
        self.service_files = own_files(self.opened.manifest, self.config.settings()["services"])
        self._made = datetime.now(UTC)

    def name_for(self, known: Collection[str]) -> str:
        """The release's id on a host that has *known* ones: the same on all, unless one of them has given it away already."""
        if self.asked:
            return self.asked
        moment = self._made
        while release_id(moment, self.digest[:6]) in known:
            moment += timedelta(seconds=1)
        return release_id(moment, self.digest[:6])

    def serves(self, facts: Facts) -> str | None:
        """The release that runs on a host with *facts* if it is this very content, and the host need not be asked for more."""
        running, settings = facts.get("instance"), self.config.settings()
        if not running or running["adopted"] or not running["confirmed"]:
            return None
        if settings["run"]["secrets"] or settings["services"] or facts.get("services"):
            return None  # whose values are the same, and which of them run, the host knows
        hashes = {row["id"]: row["hash"] for row in facts["releases"]}
        return str(running["release"]) if hashes.get(running["release"]) == self.digest else None

    def prefer(self, facts: Collection[Facts]) -> None:
        """Take the name under which it serves somewhere already: a rollout that is finished by a second push has one name."""
        for one in facts:
            name = self.serves(one)
            if name and not self.asked and all(name not in _known(other) for other in facts if not self.serves(other)):
                self.asked = name
                return


def _known(facts: Facts) -> set[str]:
    return {release["id"] for release in facts["releases"]}
