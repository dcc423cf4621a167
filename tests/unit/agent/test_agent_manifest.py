from __future__ import annotations

import pytest
import tomllib

from penstock.agent.manifest import read_manifest

PIXI = """
[workspace]
name = "analysis"
version = "1.2.0"
platforms = ["linux-64", "osx-arm64"]

[activation]
scripts = ["setup.sh"]
env = { WHO = "all", MODE = "all" }

[target.linux-64.activation]
scripts = ["linux64.sh"]
[target.linux-64.activation.env]
MODE = "linux-64"

[target.unix.activation]
scripts = ["unix.sh"]
env = { MODE = "unix", UNIX = "yes" }

[feature.gpu.activation]
scripts = ["gpu.sh"]
env = { WHO = "gpu", COUNT = 1 }

[feature.test.target.linux.activation]
env = { WHO = "test" }

[feature.quiet.activation]
scripts = ["loud.sh"]
[feature.quiet.target.linux.activation]
scripts = []

[environments]
gpu = ["gpu", "test"]
test = { features = ["test", "gpu"], no-default-feature = true }
quiet = { features = ["quiet"], no-default-feature = true }
"""


@pytest.mark.parametrize(
    ("environment", "machine", "scripts", "env"),
    [
        ("default", "x86_64", ["linux64.sh"], {"WHO": "all", "MODE": "linux-64", "UNIX": "yes"}),
        ("default", "aarch64", ["unix.sh"], {"WHO": "all", "MODE": "unix", "UNIX": "yes"}),
        (
            "gpu",
            "x86_64",
            ["gpu.sh", "linux64.sh"],
            {"WHO": "gpu", "COUNT": "1", "MODE": "linux-64", "UNIX": "yes"},
        ),
        ("test", "x86_64", ["gpu.sh"], {"WHO": "test", "COUNT": "1"}),
        ("quiet", "x86_64", [], {}),
        ("nowhere", "x86_64", ["linux64.sh"], {"WHO": "all", "MODE": "linux-64", "UNIX": "yes"}),
    ],
)
def test_features_and_targets(
    environment: str, machine: str, scripts: list[str], env: dict[str, str]
) -> None:
    found = read_manifest(tomllib.loads(PIXI), "pixi.toml", environment, machine)
    assert (found.scripts, found.env) == (scripts, env)
    assert found[:3] == ("analysis", "1.2.0", "linux-64,osx-arm64")


def test_pyproject() -> None:
    text = """
[project]
name = "package"
version = "3"
[tool.pixi.workspace]
platforms = ["linux-64"]
[tool.pixi.activation]
scripts = ["a.sh"]
[activation]
scripts = ["not pixi's"]
"""
    found = read_manifest(tomllib.loads(text), "pyproject.toml", "default", "x86_64")
    assert found == ("package", "3", "linux-64", ["a.sh"], {})
    named = text + '\n[tool.pixi.project]\nname = "other"\n'
    assert read_manifest(tomllib.loads(named), "pyproject.toml", "default", "x86_64")[0] == "other"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"environments": []},
        {"environments": {"default": {"features": None}}},
        {"environments": {"default": ["missing"]}, "feature": 3},
        {"activation": "x", "target": {"linux": {"activation": {"scripts": "a", "env": []}}}},
        {"workspace": {"platforms": "linux-64"}},
    ],
)
def test_what_is_no_manifest_activates_nothing(document: dict[str, object]) -> None:
    found = read_manifest(document, "pixi.toml", "default", "x86_64")
    assert found == ("", "NO_VERSION_SPECIFIED", "", [], {})
