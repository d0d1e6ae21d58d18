"""
Batch jobs with services that end when the job does, in this process or on Ray (docs/jobs.md).

Standard library only, Python 3.9; Ray is needed by those who ask for it.
"""

from typing import TYPE_CHECKING, Any

from deployer.jobs.environment import LocalEnvironment
from deployer.jobs.hosted import service
from deployer.jobs.report import JobError, Report, ServiceReport

if TYPE_CHECKING:
    from deployer.jobs.remote import RemoteEnvironment

__all__ = ["JobError", "LocalEnvironment", "RemoteEnvironment", "Report", "ServiceReport", "service"]


def __getattr__(name: str) -> Any:
    # It needs all that `deployer` needs, and Python 3.11; on the host, and in most jobs, there is neither need nor place for that.
    if name == "RemoteEnvironment":
        from deployer.jobs.remote import RemoteEnvironment

        return RemoteEnvironment
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
