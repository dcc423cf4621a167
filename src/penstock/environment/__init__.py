"""What a job's environment is made of: pure rules, below the settings, which only carry them."""

from penstock.environment.rules import DROP, EnvironmentRules, JobEnvironment, job_environment

__all__ = ["DROP", "EnvironmentRules", "JobEnvironment", "job_environment"]
