"""What documents say without being run: their links lead somewhere, their commands exist."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from docs.markdown import ROOT, all_blocks, anchors, documents, links
from penstock.cli.main import main
from penstock.client.site import Images
from penstock.settings.htcondor import HTCondorBackendSettings

DOCUMENTS = [path.relative_to(ROOT).as_posix() for path in documents()]
_COMMAND = re.compile(r"(?:^|[\s/;&|])penstock ([^\n#;&|]*)", re.MULTILINE)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    path = ROOT / name
    for target in links(path):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, anchor = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        assert other.exists(), f"{name} links to {target}"
        if anchor and other.suffix == ".md":
            assert anchor in anchors(other), f"{name} links to {target}"


def commands() -> list[tuple[str, str]]:
    """(where, arguments) of every ``penstock …`` in shell blocks and unit files."""
    texts = [(block.where, block.text) for block in all_blocks("sh", "console")]
    texts += [(p.name, p.read_text()) for p in (ROOT / "packaging/systemd").glob("*.service")]
    found = []
    for where, text in texts:
        lines = "\n".join(line for line in text.splitlines() if not line.startswith(("#", "pip ")))
        found += [(where, match.strip()) for match in _COMMAND.findall(lines)]
    return sorted(set(found))


@pytest.mark.parametrize(("where", "arguments"), commands())
def test_commands_exist(where, arguments):
    words = shlex.split(arguments)
    command: list[str] = []
    for word in words:
        if word.startswith(("-", "<", "/", ".")) or not re.fullmatch("[a-z-]+", word):
            break
        command.append(word)
    # `penstock config check FILE` is two words, `penstock logs CLUSTER` one.
    nested = command[:2] if command[:1] == ["config"] else command[:1]
    shown = CliRunner().invoke(main, [*nested, "--help"])
    assert shown.exit_code == 0, f"{where}: penstock {arguments}: {shown.output}"
    for option in (word for word in words if word.startswith("--")):
        assert option.partition("=")[0] in shown.output, f"{where}: penstock {arguments}"


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=lambda block: block.where)
def test_yaml_is_configuration_that_the_client_knows(block):
    import dask
    import dask_gateway  # noqa: F401  (its defaults are the known keys)

    document = yaml.safe_load(block.text)
    if set(document) != {"gateway"}:
        return
    known = {**dask.config.get("gateway"), "htcondor": _htcondor_keys(), "notebook": {}}
    assert set(document["gateway"]) <= set(known)
    for key, value in document["gateway"].items():
        if isinstance(value, dict) and isinstance(known[key], dict):
            assert set(value) <= set(known[key]), f"{block.where}: gateway.{key}"


def _htcondor_keys() -> dict[str, None]:
    """What ``HTCGateway`` reads below ``gateway.htcondor``."""
    names = {*HTCondorBackendSettings.model_fields, *(each.name for each in fields(Images))}
    return dict.fromkeys(name.replace("_", "-") for name in names)


@pytest.mark.parametrize("block", all_blocks("toml"), ids=lambda block: block.where)
def test_toml_is_a_configuration(block, tmp_path: Path):
    """Each block is a whole configuration, and a correct one; the files that it names exist."""
    text = block.text
    for file in set(re.findall(r'"/etc/penstock/([^"]+)"', text)):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("secret\n")
    path = tmp_path / "penstock.toml"
    path.write_text(text.replace('"/etc/penstock/', f'"{tmp_path}/'))
    checked = CliRunner().invoke(main, ["config", "check", "--config", str(path)])
    assert checked.exit_code == 0, f"{block.where}: {checked.output}"
