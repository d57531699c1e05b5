"""Every error that flows raise.

FlowError
├── StartError          Audiophile cannot start as it is set; the message says what to change
├── DeploymentError     prefect.yaml cannot be used as it is
└── AskedError          a run was asked for what there is not, or what does not go together
"""


class FlowError(Exception):
    """Base of every error in this package."""


class StartError(FlowError):
    """Something that a user can change keeps Audiophile from starting."""


class DeploymentError(FlowError):
    """prefect.yaml is wrong; the message names the deployment and the field."""


class AskedError(FlowError):
    """The parameters of a run cannot be used; the message names what there is instead."""
