"""The front door: a small process of its own that accepts, peeks and passes connections on.

TLS connections that name a cluster are spliced to its scheduler; everything else is handed, as an
accepted socket, to the server. The door lives longer than the server, so that restarting, upgrading
or killing the server breaks no connection and no computation.

    config.py       what a door is told at its start
    clienthello.py  is it TLS, and which name does it ask for (pure)
    routes.py       cluster name → address of its scheduler, kept in a file
    loop.py         the event loop: epoll, deadlines, a short busy wait
    splice.py       bytes between two sockets
    sniff.py        one connection from accept to its fate
    handover.py     the queue of sockets that servers take
    control.py      one control connection: a server's sockets, acknowledgements and routes
    listen.py       opening the door's sockets
    core.py         accepting, limits, and what holds all this together
    process.py      the process from start to exit code
    logs.py         its log
    protocol.py     the messages on the control socket
    link.py         the server's end of the control socket (asyncio)
    supervise.py    the server's care for the process: start, watch, replace, stop
"""
