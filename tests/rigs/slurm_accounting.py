"""A Slurm with accounts: a real slurmdbd before a MariaDB of its own, as every large site has.

The database has no network, no privileges and no time zone tables: it is ours alone, empty when it
starts, and gone with the cluster's directory.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from rigs.slurm import Slurm
from rigs.slurm_install import PLUGINS
from rigs.slurm_network import quiet_ports

_TABLES = Path("/usr/share/mysql/mysql_system_tables.sql")
"""Without them the procedures that slurmdbd stores are silently none, and limits read 0."""

_DATABASE = (
    *("--no-defaults", "--user=root", "--skip-networking"),
    *("--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0"),
)

_ENFORCED = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={socket}
AccountingStorageEnforce=associations,limits,qos,safe
PreemptType=preempt/qos"""

_DBD = """\
AuthType=auth/munge
AuthInfo=socket={place}/munge/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
LogFile={place}/log/slurmdbd.log
PidFile={place}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
{more}
"""


class AccountedSlurm(Slurm):
    """A cluster in which only users with an association may submit, within limits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        [self._port] = quiet_ports(1)
        self.policy = _ENFORCED.format(
            port=self._port, socket=self.directory / "munge" / "munge.socket"
        )
        # How the client library finds the database's socket; slurmdbd itself cannot be told.
        self.environ["MYSQL_UNIX_PORT"] = str(self._socket)

    @property
    def _socket(self) -> Path:
        return self.directory / "db" / "socket"

    def before_controller(self) -> None:
        """The database, slurmdbd, and this cluster in it."""
        place = self.directory / "db"
        (place / "data").mkdir(mode=0o700, parents=True)
        place.chmod(0o700)
        words = (*_DATABASE, f"--datadir={place}/data")
        subprocess.run(
            [self.program("mariadbd"), *words, "--bootstrap"],
            input="create database mysql;\nuse mysql;\n" + _TABLES.read_text(),
            capture_output=True,
            text=True,
            check=True,
        )
        paths = f"--socket={self._socket}", f"--pid-file={place}/pid"
        self._spawn("mariadbd", "mariadbd", *words, *paths, "--skip-grant-tables")
        self.wait_for(self._socket.exists, "the database listens")
        self.start_accounting()
        self.accounts("add", "cluster", "penstock")

    def start_accounting(self) -> None:
        """Start slurmdbd and wait until it answers."""
        more = "" if self.programs is None else f"PluginDir={self.programs / PLUGINS}"
        config = self.directory / "slurmdbd.conf"
        config.touch(mode=0o600)
        config.write_text(_DBD.format(place=self.directory, port=self._port, more=more))
        self._spawn("slurmdbd", "slurmdbd", "-D")
        self.wait_for(
            lambda: self.run("sacctmgr", "show", "cluster", check=False).returncode == 0,
            "slurmdbd answers",
        )

    def accounts(self, *command: str) -> str:
        """``sacctmgr`` without questions."""
        return str(self.run("sacctmgr", "-i", *command).stdout)
