"""What the notebook tells its process on the first line of standard input, as JSON.

Standard input and not arguments, because the ticket is a secret.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.model.errors import Invalid


@dataclass(frozen=True, slots=True)
class Order:
    """For which cluster of which server, and how jobs are submitted.

    ``backend``: a section like those of the server's ``[backends]``. ``parent``: the
    notebook's process id. ``setup``: see
    ``penstock.notebook.prepare``. ``keep``: what to do when the notebook is gone without a word: let
    the cluster and its jobs go on, or stop them. ``proxy``: of HTTP, None for none.
    """

    address: str
    cluster: str
    gateway: str
    ticket: str
    who: str
    parent: int
    keep: bool
    backend: Mapping[str, object]
    setup: Mapping[str, object] = field(default_factory=dict)
    proxy: str | None = None

    @classmethod
    def parse(cls, line: str) -> Order:
        """Raises Invalid."""
        try:
            return cls(**json.loads(line))
        except (TypeError, ValueError) as error:
            raise Invalid(f"the notebook's order cannot be read: {error}") from None

    def dump(self) -> str:
        """One line."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})
