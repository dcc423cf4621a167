"""``python -m penstock.door CONFIG_JSON [READY_FD]``: how the supervisor starts the process."""

from __future__ import annotations

import sys

from penstock.door.config import DoorConfig
from penstock.door.process import main

if __name__ == "__main__":
    sys.exit(main(DoorConfig.from_json(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else None))
