"""The core: what is wanted, what is there, and the loop that brings the one to the other.

``Control`` is what the rest of the server uses. Inside, ``plan lifecycle timeouts quota deaths``
decide and do nothing else; ``site queue registry execute loop sessions`` act.
"""

from penstock.control.control import Control
from penstock.control.credentials import SNI_PREFIX
from penstock.control.entry import Link, Live

__all__ = ["SNI_PREFIX", "Control", "Link", "Live"]
