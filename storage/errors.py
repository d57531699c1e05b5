"""Every error that storage raises.

StorageError
├── SettingsError      a setting cannot be used as given
├── StoreError         the store (disk, bucket) failed or lacks what it must have
├── LogError           the log is damaged or written by a newer version
└── CommitConflictError  other writers kept winning the next place in the log
"""


class StorageError(Exception):
    """Base of every error in this package."""


class SettingsError(StorageError):
    """A setting cannot be used; the message names it, its value and the remedy."""


class StoreError(StorageError):
    """The store could not read or write."""


class LogError(StorageError):
    """A log entry is unreadable, or of a format that this version does not know."""


class CommitConflictError(StorageError):
    """Other writers took every next place in the log that this commit tried."""
