"""The error tree.

HomeostatError
├── Blocked            retrying cannot help before something changes: Stalled=True
├── Transient          retry with back-off
│   ├── Conflict       409: the object changed under us
│   ├── Unavailable    connection, time-out, 429, 5xx
│   └── NotLeader      the Lease is gone: no more writes
├── NotFound           404
├── Gone               410: a watch's starting point is too old, list again
├── Forbidden          401, 403
├── Invalid            400, 422: the API server refused what we sent
└── ArtifactError      a step with an artifact failed; `permanent` says whether trying again can help
"""


class HomeostatError(Exception):
    """Base of all errors that we raise on purpose."""


class Blocked(HomeostatError):
    """Retrying cannot help before something changes: Stalled=True, no requeue."""

    def __init__(self, reason: str, because: str) -> None:
        super().__init__(because)
        self.reason = reason
        self.because = because


class Transient(HomeostatError):
    """Trying again later may help."""


class Conflict(Transient):
    """The object changed since it was read."""


class Unavailable(Transient):
    """The other side did not answer or was too busy. `retry_after` in seconds when it said one."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotLeader(Transient):
    """This process does not hold the Lease, so it writes nothing."""


class NotFound(HomeostatError):
    """The object does not exist."""


class Gone(HomeostatError):
    """A watch's starting point is too old: list again."""


class Forbidden(HomeostatError):
    """The credentials lack a right."""


class Invalid(HomeostatError):
    """The API server refused what we sent."""


class ArtifactError(HomeostatError):
    """A step with an artifact failed.

    reason: CamelCase, goes to a condition. permanent: trying again cannot help.
    """

    def __init__(self, reason: str, because: str, *, permanent: bool = True) -> None:
        super().__init__(because)
        self.reason = reason
        self.because = because
        self.permanent = permanent
