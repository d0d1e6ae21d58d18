"""The limit of the CI job that runs this command, where its system says it in the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class JobLimit:
    """Seconds until *system* cancels the whole job, by the name under which it says so, and where a person sets it."""

    system: str
    name: str
    seconds: float
    where: str


_SAID = (
    ("GitLab", "CI_JOB_TIMEOUT", 1.0, "timeout: of the job in .gitlab-ci.yml"),
    ("Buildkite", "BUILDKITE_TIMEOUT", 60.0, "timeout_in_minutes of the step"),
)
"""Who says it, where, and in what unit. GitHub, Jenkins and CircleCI do not say it."""


def job_limit(environ: Mapping[str, str]) -> JobLimit | None:
    """The limit of the CI job around us; None outside of one, or where nobody tells ("false" is no limit)."""
    for system, name, unit, where in _SAID:
        text = environ.get(name, "")
        if text.isascii() and text.isdigit() and int(text) > 0:
            return JobLimit(system, name, int(text) * unit, where)
    return None
