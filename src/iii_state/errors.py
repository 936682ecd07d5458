"""The one tree of errors.

Every error that a user can meet is a `StateError`: a stable `code`, a sentence that says what is
wrong and what to do, and `details` for programs. Unless an error says otherwise (`OutcomeUnknown`),
nothing was changed and nothing was lost.

    StateError
    ├── InvalidRequest          a request that does not decode, or breaks a rule
    ├── LimitExceeded           over a named limit
    ├── Conflict                the key holds something else than the caller said
    │   └── AlreadyDone         it was carried out before; what it answered is no longer kept
    ├── UpdateRejected          an operation of a strict update failed
    ├── TooLate                 the write was taken up after its deadline
    ├── NotFound                no such function, trigger, worker
    ├── Refused                 not allowed here
    │   └── Unauthorized        the server wants a token, or another one
    ├── Stopped                 whoever was to answer went away
    ├── ConnectionFailed        the server cannot be reached, or went away
    ├── TimedOut                no answer in time; whether it was carried out is not known
    ├── CallFailed              the function that was called answered with an error
    ├── RevisionCompacted       the change log no longer reaches back that far
    ├── StorageError            the store cannot do it
    │   ├── DiskFull            no room for the write; it is taken again once there is
    │   │   └── StoreHindered   room, but the system refuses a file; else the same
    │   ├── TooManyFiles        no file descriptor left for the next file; as DiskFull
    │   ├── OutcomeUnknown      a sync failed: the write may or may not survive
    │   └── StoreReadOnly       after a failed sync, until restart
    ├── StoreUnusable           the store cannot be opened
    │   ├── StoreDamaged        a checksum does not hold, with file and offset
    │   ├── StoreLocked         another process holds the directory
    │   ├── StoreNotWritable    the directory cannot be written
    │   ├── StoreForeign        the directory belongs to another program
    │   └── StoreTooNew         written by a newer version
    └── ConfigurationError      a setting is unknown or wrong, with file and line

To add one: subclass here, give it a `code`, raise it at the one place that finds the fault.
"""

from __future__ import annotations

from typing import Any, ClassVar


class StateError(Exception):
    """The root: a stable code, a sentence for people, details for programs."""

    code: ClassVar[str] = "STATE_ERROR"

    def __init__(self, message: str, *, code: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.wire_code = code if code is not None else self.code


class InvalidRequest(StateError):
    """The request does not decode, or breaks a rule. Nothing was read or written."""

    code = "deserialization_error"


class LimitExceeded(StateError):
    """Over a named limit. Details: `limit` (its name), `actual`, `bound`."""

    code = "LIMIT_EXCEEDED"


class Conflict(StateError):
    """A key holds something else than the caller said. Details: `revision`, what it holds now."""

    code = "CONFLICT"


class AlreadyDone(Conflict):
    """An idempotent write was carried out before, and its answer is gone. Details: `revision`."""

    code = "ALREADY_DONE"


class UpdateRejected(StateError):
    """An operation of a strict update failed. Details: `errors`, one per failed operation."""

    code = "UPDATE_REJECTED"


class TooLate(StateError):
    """A write was taken up later than its caller still wanted it. Details: `late_ms`."""

    code = "DEADLINE_EXCEEDED"


class NotFound(StateError):
    """No such function, trigger or worker. A missing key is never an error."""

    code = "NOT_FOUND"


class Refused(StateError):
    """Not allowed here."""

    code = "FORBIDDEN"


class Unauthorized(Refused):
    """The server wants a token, or another one than was sent."""

    code = "UNAUTHORIZED"


class Stopped(StateError):
    """Whoever was to answer went away. Whether the call was carried out is not known."""

    code = "invocation_stopped"


class ConnectionFailed(StateError):
    """The server cannot be reached, or the connection broke. Details: `url`."""

    code = "CONNECTION_FAILED"


class TimedOut(StateError):
    """No answer in time. Whether the call was carried out is not known."""

    code = "TIMEOUT"


class CallFailed(StateError):
    """The function that was called answered with an error, whose code this carries."""

    code = "invocation_failed"


class RevisionCompacted(StateError):
    """The change log no longer reaches back that far. Details: `oldest_revision`."""

    code = "REVISION_COMPACTED"


class StorageError(StateError):
    """The store cannot do it now."""

    code = "STORAGE_ERROR"


class DiskFull(StorageError):
    """No room for the write. Nothing changed; writes are taken again once there is room."""

    code = "DISK_FULL"


class TooManyFiles(StorageError):
    """No file descriptor is left for the next file of the log, or to open it. Nothing changed.

    As with a full disk, a running store takes writes again once there is one.
    """

    code = "TOO_MANY_FILES"


class StoreHindered(DiskFull):
    """The system refuses the store a file: not allowed, or no memory. Nothing changed.

    As with a full disk writes are taken again once it is given. Details: `directory`, `reason`.
    """

    code = "STORE_HINDERED"


class OutcomeUnknown(StorageError):
    """A sync failed: the write may or may not survive a restart. Reads go on."""

    code = "OUTCOME_UNKNOWN"


class StoreReadOnly(StorageError):
    """Writes are refused since an earlier sync failed. Nothing changed; restart to recover."""

    code = "STORE_READ_ONLY"


class StoreUnusable(StateError):
    """The store cannot be opened. Nothing in it was touched."""

    code = "STORE_UNUSABLE"


class StoreDamaged(StoreUnusable):
    """A checksum does not hold. Details: `file`, `offset`, `readable` (what still is)."""

    code = "STORE_DAMAGED"


class StoreLocked(StoreUnusable):
    """Another process holds the directory. Details: `directory`, `pid`."""

    code = "STORE_LOCKED"


class StoreNotWritable(StoreUnusable):
    """The directory cannot be created or written. Details: `directory`, `reason`."""

    code = "STORE_NOT_WRITABLE"


class StoreForeign(StoreUnusable):
    """The directory belongs to another program, such as the original engine."""

    code = "STORE_FOREIGN"


class StoreTooNew(StoreUnusable):
    """Written by a newer version. Details: `found`, `supported`."""

    code = "STORE_TOO_NEW"


class ConfigurationError(StateError):
    """A setting is unknown or wrong. Details: `file`, `line` where there is one."""

    code = "CONFIGURATION_ERROR"
