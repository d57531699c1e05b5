"""Every error that storage raises.

StorageError
├── SettingsError      a setting cannot be used as given
├── StoreError         the store (disk, bucket) failed or lacks what it must have
│   └── MissingError   something that the log names is not there
├── LogError           the log is damaged or written by a newer version
├── CommitConflictError  other writers kept winning the next place in the log
├── IndexDamagedError  the index file of this host was damaged, and has been made anew: ask again
├── PublishedReferenceError  the reference is published, and cannot be rejected any more
├── UnknownReferenceError  no commit made such a reference
└── ExpiredReferenceError  the reference is older than what is kept
"""


class StorageError(Exception):
    """Base of every error in this package."""


class SettingsError(StorageError):
    """A setting cannot be used; the message names it, its value and the remedy."""


class StoreError(StorageError):
    """The store could not read or write."""


class MissingError(StoreError):
    """Something that the log names is not in the store."""


class LogError(StorageError):
    """A log entry is unreadable, or of a format that this version does not know."""


class CommitConflictError(StorageError):
    """Other writers took every next place in the log that this commit tried."""


class IndexDamagedError(StorageError):
    """The index file on this host was damaged in the middle of a reading, and has been made anew."""


class PublishedReferenceError(StorageError):
    """The reference is published: what it says is, or was, shown."""


class UnknownReferenceError(StorageError):
    """There is no such reference."""


class ExpiredReferenceError(StorageError):
    """The reference is not kept any more."""
