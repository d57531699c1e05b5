"""Every error that flows raise.

FlowError
├── StartError          Audiophile cannot start as it is set; the message says what to change
└── DeploymentError     prefect.yaml cannot be used as it is
"""


class FlowError(Exception):
    """Base of every error in this package."""


class StartError(FlowError):
    """Something that a user can change keeps Audiophile from starting."""


class DeploymentError(FlowError):
    """prefect.yaml is wrong; the message names the deployment and the field."""
