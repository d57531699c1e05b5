"""What the group file says of one model, read as its family wants it. It must not know any family."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from models.confidence import Search
from models.errors import ModelUnavailableError
from models.group import ModelSpec

Settings = TypeVar("Settings")


def settings_of(spec: ModelSpec, kind: Callable[..., Settings]) -> Settings:
    """Return a model's settings, which `kind` checks when it is made of them.

    Raises:
        ModelUnavailableError: One is missing, unknown or impossible.
    """
    with _said_of(spec):
        return kind(**spec.settings)


def search_of(spec: ModelSpec, evidence: Collection[str]) -> Search:
    """Return what a model looks for in texts, and how.

    Args:
        spec: The model.
        evidence: The names of what its family weighs.

    Raises:
        ModelUnavailableError: Something is missing, unknown or impossible.
    """
    with _said_of(spec):
        return Search.of(spec.search, evidence)


def require_no_settings(spec: ModelSpec) -> None:
    """Refuse settings of a family that has none.

    Raises:
        ModelUnavailableError: There are some.
    """
    if spec.settings:
        raise ModelUnavailableError(f"{spec.name}: there are no settings, but {', '.join(spec.settings)}: remove them")


@contextmanager
def _said_of(spec: ModelSpec) -> Iterator[None]:
    try:
        yield
    except (TypeError, KeyError, ValueError) as error:
        raise ModelUnavailableError(f"{spec.name}: its settings in the group file are wrong: {error}") from error
