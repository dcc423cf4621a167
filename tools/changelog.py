"""Change notes: one file a change in ``changelog.d/``, gathered into CHANGELOG.md at a release.

Two branches that both add a line to one CHANGELOG always conflict; two files never do. A fragment
is ``<slug>.<kind>.md`` and holds one or a few sentences for whoever upgrades.

    python tools/changelog.py check            every fragment is well named and not empty
    python tools/changelog.py build 0.2.0      write the section of a release, delete its fragments
"""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

KINDS = ("security", "added", "changed", "fixed")
"""In the order in which a release lists them."""

_NAME = re.compile(rf"[a-z0-9][a-z0-9-]*\.({'|'.join(KINDS)})\.md")
_VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")
_MARK = "<!-- releases: newest first -->\n"


@dataclass(frozen=True)
class Fragment:
    """One change note."""

    name: str
    text: str

    @property
    def kind(self) -> str:
        """``added``, ``changed``, ``fixed`` or ``security``."""
        return self.name.split(".")[1]


def mistakes(fragments: Iterable[Fragment]) -> list[str]:
    """What is wrong with the fragments, a sentence each."""
    found = []
    for fragment in fragments:
        if not _NAME.fullmatch(fragment.name):
            found.append(f"{fragment.name}: a change note is called <slug>.<{'|'.join(KINDS)}>.md")
        elif not fragment.text.strip():
            found.append(f"{fragment.name} is empty: say what changed, for whoever upgrades")
    return found


def section(version: str, date: datetime.date, fragments: Iterable[Fragment]) -> str:
    """The Markdown of one release."""
    lines = [f"## {version} ({date.isoformat()})", ""]
    ordered = sorted(fragments, key=lambda fragment: fragment.name)
    for kind in KINDS:
        texts = [fragment.text.strip() for fragment in ordered if fragment.kind == kind]
        if texts:
            lines += [f"### {kind.capitalize()}", ""]
            lines += ["- " + text.replace("\n", "\n  ") for text in texts]
            lines.append("")
    return "\n".join(lines) + "\n"


def read(directory: Path) -> list[Fragment]:
    """All fragments of a directory (its README is none)."""
    paths = sorted(path for path in directory.iterdir() if path.name != "README.md")
    return [Fragment(path.name, path.read_text(encoding="utf-8")) for path in paths]


def build(root: Path, version: str, date: datetime.date) -> str:
    """Put the fragments into CHANGELOG.md as one release and delete them; returns the section."""
    fragments = read(root / "changelog.d")
    if not fragments:
        raise SystemExit("changelog.d/ holds no change notes: nothing to release")
    changelog = root / "CHANGELOG.md"
    before, mark, after = changelog.read_text(encoding="utf-8").partition(_MARK)
    if not mark:
        raise SystemExit(f"CHANGELOG.md has lost its line {_MARK.strip()!r}")
    new = section(version, date, fragments)
    changelog.write_text(f"{before}{mark}\n{new}{after.lstrip()}", encoding="utf-8")
    for fragment in fragments:
        (root / "changelog.d" / fragment.name).unlink()
    return new


def main(arguments: list[str]) -> None:
    """The command line: ``check``, or ``build VERSION``."""
    root = Path(__file__).resolve().parent.parent
    wrong = mistakes(read(root / "changelog.d"))
    if wrong:
        raise SystemExit("\n".join(wrong))
    if arguments == ["check"]:
        return
    if len(arguments) != 2 or arguments[0] != "build" or not _VERSION.fullmatch(arguments[1]):
        raise SystemExit("usage: changelog.py check | changelog.py build VERSION (e.g. 0.2.0)")
    print(build(root, arguments[1], datetime.datetime.now(datetime.timezone.utc).date()), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
