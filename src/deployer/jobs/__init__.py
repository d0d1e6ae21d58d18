"""
Batch jobs with services that end when the job does, in this process or on Ray (docs/jobs.md).

Standard library only, Python 3.9; Ray is needed by those who ask for it.
"""

from deployer.jobs.environment import LocalEnvironment
from deployer.jobs.report import JobError, Report, ServiceReport

__all__ = ["JobError", "LocalEnvironment", "Report", "ServiceReport"]
