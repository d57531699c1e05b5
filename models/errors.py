"""Every error that models raise.

ModelError
├── DriftError              what is to be compared cannot be, or a baseline cannot be read
├── GroupError              group.toml cannot be used as it is
└── ModelUnavailableError   a model of the group cannot be loaded on this host
"""


class ModelError(Exception):
    """Base of every error in this package."""


class DriftError(ModelError):
    """Tables, a baseline or a setting of drift are wrong; the message says how, and the remedy."""


class GroupError(ModelError):
    """The group file is wrong; the message names the model, the field and the remedy."""


class ModelUnavailableError(ModelError):
    """A model's weights are missing, or are not the ones that the group file names."""
