"""``penstock serve`` whose jobs give up soon: after seconds without a server, and not after a day.

Usage: impatient_serve.py SECONDS serve …      The product knows nothing of this.
"""

from __future__ import annotations

import sys

from penstock.cli.main import main
from penstock.control import launch

if __name__ == "__main__":
    launch.GIVE_UP = float(sys.argv[1])
    sys.argv[:] = ["penstock", *sys.argv[2:]]
    main()
