"""The one tree of exceptions.

PenstockError
├── UserError            the request is at fault: its text goes to the user as it stands
│   ├── NotFound             no such cluster for this user            → 404
│   ├── Invalid              a value is wrong, says what is allowed   → 422
│   ├── Conflict             not in this state                       → 409
│   ├── Forbidden            known, but not allowed                   → 403
│   └── Unauthenticated      nobody we know                          → 401
├── SettingsError        a configuration with all its mistakes
├── StoreError           the database: locked, full, of a newer version
└── BackendError         a batch system, in its own words
    ├── Rejected             it refused: tell the user
    ├── Unavailable          it did not get our request: try again later
    ├── Full                 not now: its limit of waiting jobs is reached
    ├── Absent               nobody is there who would submit for this cluster: try again later
    └── Uncertain            it may have accepted: only ``observe`` settles it
"""

from __future__ import annotations


class PenstockError(Exception):
    """Any error that Penstock raises on purpose; its text is one sentence for people."""


class UserError(PenstockError):
    """The request is at fault; the text is shown to the user as it stands."""

    status = 400


class NotFound(UserError):
    """The thing does not exist for this user (also when it is somebody else's)."""

    status = 404


class Invalid(UserError):
    """A value is wrong; the text names it and says what is allowed."""

    status = 422


class Conflict(UserError):
    """The cluster is not in a state in which this can be done."""

    status = 409


class Forbidden(UserError):
    """The caller is known and may not do this."""

    status = 403


class Unauthenticated(UserError):
    """The caller did not say who they are, or not convincingly.

    ``challenge`` is the ``WWW-Authenticate`` value that says how to.
    """

    status = 401
    challenge = ""


class SettingsError(PenstockError):
    """A configuration cannot be used; the text lists every mistake, a line each."""


class StoreError(PenstockError):
    """The database cannot be used now: locked, full, or written by a newer version."""


class BackendError(PenstockError):
    """A batch system failed; the text holds its own words."""


class Rejected(BackendError):
    """The batch system refused the submission, and would refuse it again."""


class Unavailable(BackendError):
    """The batch system certainly did not take the request; trying again later is safe."""


class Full(BackendError):
    """The batch system took nothing, because a limit of jobs that wait or run is reached.

    Certain as ``Unavailable`` is, but about one owner's jobs and not about the batch system: the
    same submission may go once jobs have started or ended, and a smaller one may go now.
    """


class Absent(BackendError):
    """Whoever submits for this cluster is not there, or could not (is not let in, has no room).

    Certain as ``Unavailable`` is, but about this one cluster and not about the batch system.
    """


class Uncertain(BackendError):
    """The request may have been accepted (time-out, lost reply): only ``observe`` settles it."""
