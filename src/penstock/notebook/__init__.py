"""The process beside a notebook: it submits a cluster's workers with its user's credentials.

``penstock.client`` starts it (``python -m penstock.notebook``) for every cluster that wants it, and
the server asks it for the verbs of a backend (``penstock.backends.relay.wire``). Why a process and
not a thread? A kernel that computes holds the interpreter's lock for minutes, a kernel that is
killed cleans up nothing, and an interpreter that exits can start no thread any more. This process
notices each of them by the end of its standard input, and then does what is to be done.
"""
