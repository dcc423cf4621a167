"""What a job's environment is made of: which Python environment, and which variables.

Rules, below the settings, which only carry them; and one look whether an environment is there.
"""

from penstock.environment.rules import DROP, EnvironmentRules, JobEnvironment, job_environment

__all__ = ["DROP", "EnvironmentRules", "JobEnvironment", "job_environment"]
