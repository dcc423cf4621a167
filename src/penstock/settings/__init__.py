"""The configuration: typed sections, read from one TOML file and the environment."""

from penstock.settings.embedded import embedded
from penstock.settings.load import load
from penstock.settings.root import Settings

__all__ = ["Settings", "embedded", "load"]
