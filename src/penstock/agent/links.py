"""How a job's processes reach others: by the front door, at ports of a range, at a known address.

Dask's own ``scheduler_sni`` is too little: only ``Worker`` knows it (since distributed 2022.10), so a
nanny's registration and the ``Client`` of ``get_client`` and ``worker_client`` go without a name and
end at the gateway's web server. Here the TLS context itself says the name, whoever connects with
it: one way for all of them, in every version since 2022.1.
"""

import contextlib
import os
from typing import Any, Iterator, List, Optional, Sequence, Tuple

from penstock.agent.base import Broken, load_config
from penstock.agent.child import bracketed

PORT_TRIES = 20  # others on this host take ports of the same range at the same time


def host_setting(text: Optional[str]) -> Optional[str]:
    """A configured host: as it is, or of the job's variable that ``$NAME`` names. Raises Broken."""
    if not text or not text.startswith("$"):
        return text
    value = os.environ.get(text[1:], "")
    if not value or any(char.isspace() for char in value):
        raise Broken("the variable %s, which names the host to announce, is not set" % text[1:])
    return value


def port_pairs(ports: Optional[Sequence[int]]) -> Iterator[Tuple[int, int]]:
    """Two ports to try together, for a scheduler and its dashboard; (0, 0) when any will do."""
    if not ports:
        yield 0, 0
        return
    every = list(range(ports[0], ports[1] + 1))
    for _ in range(PORT_TRIES):
        import random

        first, second = random.sample(every, 2)
        yield first, second


def in_use(error: BaseException) -> bool:
    """Whether an error, or what caused it, is that a port is taken."""
    import errno

    seen: List[Optional[BaseException]] = [error]
    while seen[-1] is not None:
        if isinstance(seen[-1], OSError) and seen[-1].errno == errno.EADDRINUSE:
            return True
        seen.append(seen[-1].__cause__ or seen[-1].__context__)
    return False


def say_name(context: Any, name: str) -> None:
    """Have every connection that this TLS context opens say ``name`` (SNI)."""
    for method in ("wrap_socket", "wrap_bio"):
        setattr(context, method, _naming(getattr(context, method), name))


def _naming(wrap: Any, name: str) -> Any:
    def named(*args: Any, **kwargs: Any) -> Any:
        kwargs["server_hostname"] = name
        return wrap(*args, **kwargs)

    return named


def named_security(given: Any, name: str) -> Any:
    """The same Security, whose connections say ``name``."""
    from distributed import security

    plain: Any = security.Security

    class NamedSecurity(plain):  # type: ignore[misc, unused-ignore]
        def get_connection_args(self, role: str) -> Any:
            arguments = super().get_connection_args(role)
            say_name(arguments["ssl_context"], name)
            return arguments

    made = NamedSecurity()
    for slot in plain.__slots__:
        with contextlib.suppress(AttributeError):
            setattr(made, slot, getattr(given, slot))
    return made


def linked_worker(**options: Any) -> Any:
    """A Worker as the job's configuration says. Nannies call this in their worker's process."""
    import distributed

    config = load_config()
    plain: Any = distributed.Worker
    contact = host_setting(config["contact_host"]) if config["listen_host"] else None

    class LinkedWorker(plain):  # type: ignore[misc, unused-ignore]
        async def listen(self, *args: Any, **kwargs: Any) -> None:
            await super().listen(*args, **kwargs)
            if contact:  # others know this host by another address, but by the same port
                port = self.listener.contact_address.rpartition(":")[2]
                self._address = self.contact_address = "tls://%s:%s" % (bracketed(contact), port)

    if config["scheduler_sni"]:
        options["security"] = named_security(options["security"], config["scheduler_sni"])
    return LinkedWorker(**options)
