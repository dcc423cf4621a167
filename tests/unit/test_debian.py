"""Where the tests fetch Debian's packages from, whatever apt is configured with."""

from __future__ import annotations

from rigs.debian import KEYRING, PUBLIC, Mirror, mirrors

PUBLIC_ONE = Mirror(PUBLIC, KEYRING)

STANZAS = """
# The usual
Types: deb
URIs: http://one.example.org/debian https://two.example.org/pub/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By: /etc/apt/keyrings/ours.gpg

Types: deb
URIs: http://one.example.org/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://off.example.org/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb
URIs: http://three.example.org/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 x
"""

LINES = """
# deb http://comment.example.org/debian bookworm main
deb [ arch=amd64 signed-by=/usr/share/keyrings/own.gpg ] http://four.example.org/debian bookworm main
deb-src http://source.example.org/debian bookworm main
deb http://five.example.org/debian/ bookworm main
deb http://other.example.org/ubuntu noble main
"""


def test_mirrors_are_those_of_apt_and_the_public_one_is_the_last(tmp_path):
    assert mirrors(tmp_path) == [PUBLIC_ONE]
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "debian.sources").write_text(STANZAS)
    (parts / "more.list").write_text(f"deb {PUBLIC} bookworm main\n")
    (tmp_path / "sources.list").write_text(LINES)
    assert mirrors(tmp_path) == [
        Mirror("http://one.example.org/debian", "/etc/apt/keyrings/ours.gpg"),
        Mirror("https://two.example.org/pub/debian", "/etc/apt/keyrings/ours.gpg"),
        Mirror("http://three.example.org/debian", KEYRING),
        Mirror("http://four.example.org/debian", "/usr/share/keyrings/own.gpg"),
        Mirror("http://five.example.org/debian", KEYRING),
        PUBLIC_ONE,
    ]
