"""Run ``setup_condor`` as a Unix user, in the tests' own environment, which that user may not enter.

    python as_user.py USER terminal ARGUMENTS…       at this process's terminal
    python as_user.py USER many < lists.json         many times; prints [[code, output], …]

What is needed is imported first, then the rights are given up.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import sys
import termios

from click.testing import CliRunner

from penstock.client.setup_condor import main, run


def become(user: str) -> None:
    account = pwd.getpwnam(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.environ.update(HOME=account.pw_dir, USER=user, LOGNAME=user)
    os.chdir(account.pw_dir)


if __name__ == "__main__":
    become(sys.argv[1])
    if sys.argv[2] == "terminal":
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        run(sys.argv[3:])
    answers = []
    for arguments in json.load(sys.stdin):
        done = CliRunner().invoke(main, arguments)
        answers.append([done.exit_code, done.output])
    json.dump(answers, sys.stdout)
