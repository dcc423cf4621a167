"""The change notes: their names are checked, and a release gathers them."""

import datetime

import pytest
from tools import changelog

Fragment = changelog.Fragment
TODAY = datetime.date(2027, 1, 31)


@pytest.mark.parametrize("name", ["a.added.md", "issue-12-fix.fixed.md", "x.security.md"])
def test_well_named(name):
    assert changelog.mistakes([Fragment(name, "A sentence.")]) == []


@pytest.mark.parametrize("name", ["a.md", "a.new.md", "A.added.md", "a.added.rst", ".added.md"])
def test_badly_named(name):
    assert changelog.mistakes([Fragment(name, "A sentence.")]) == [
        f"{name}: a change note is called <slug>.<security|added|changed|fixed>.md"
    ]


def test_empty():
    assert changelog.mistakes([Fragment("a.added.md", " \n")]) == [
        "a.added.md is empty: say what changed, for whoever upgrades"
    ]


def test_section_orders_kinds_then_names():
    fragments = [
        Fragment("b.fixed.md", "Fixed b.\n"),
        Fragment("z.added.md", "Added z.\nIn two lines.\n"),
        Fragment("a.fixed.md", "Fixed a."),
        Fragment("s.security.md", "Closed s."),
    ]
    assert changelog.section("0.2.0", TODAY, fragments) == (
        "## 0.2.0 (2027-01-31)\n\n"
        "### Security\n\n- Closed s.\n\n"
        "### Added\n\n- Added z.\n  In two lines.\n\n"
        "### Fixed\n\n- Fixed a.\n- Fixed b.\n\n"
    )


def test_build_keeps_what_was_there_and_takes_the_fragments(tmp_path):
    (tmp_path / "changelog.d").mkdir()
    (tmp_path / "changelog.d/README.md").write_text("how")
    (tmp_path / "CHANGELOG.md").write_text(f"# Changes\n\n{changelog._MARK}")
    for version in ("0.1.0", "0.2.0"):
        (tmp_path / "changelog.d/a.added.md").write_text(f"New in {version}.")
        changelog.build(tmp_path, version, TODAY)
    text = (tmp_path / "CHANGELOG.md").read_text()
    assert text.startswith("# Changes\n\n")
    assert text.index("New in 0.2.0.") < text.index("## 0.1.0") < text.index("New in 0.1.0.")
    assert [path.name for path in (tmp_path / "changelog.d").iterdir()] == ["README.md"]


def test_build_without_fragments_says_so(tmp_path):
    (tmp_path / "changelog.d").mkdir()
    with pytest.raises(SystemExit, match="nothing to release"):
        changelog.build(tmp_path, "0.2.0", TODAY)
