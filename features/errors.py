"""Every error that features raise.

FeatureError
└── AudioError   a recording cannot be used; the message is the reason that people read
"""


class FeatureError(Exception):
    """Base of every error in this package."""


class AudioError(FeatureError):
    """A recording cannot be decoded, or is beyond a limit."""
