"""What a run of infer was asked for beyond what is missing: answers to compute again, or other phrases once.

It must not know how any of it is computed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Final
from uuid import UUID

from pydantic import Field, StringConstraints

from flows.errors import AskedError
from models.group import Group
from models.phrases import MAX_CHARACTERS
from storage.index import Index
from storage.missing import Again

MOST_FILES: Final = 10_000
MOST_PHRASES: Final = 1_000
NAMED: Final = 5  # of what is unknown, in a message

Files = Annotated[tuple[UUID, ...], Field(max_length=MOST_FILES)]
Models = Annotated[tuple[Annotated[str, StringConstraints(min_length=1, max_length=200)], ...], Field(max_length=100)]
Phrases = Annotated[
    tuple[
        Annotated[
            str,
            StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_CHARACTERS, pattern=r"[^\W_]"),
        ],
        ...,
    ],
    Field(max_length=MOST_PHRASES),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is to do beside what is missing; with `phrases` instead of it."""

    again: Again | None = None
    files: frozenset[UUID] | None = None  # the only ones to look at; None: all
    phrases: tuple[str, ...] = ()

    def without(self, done: Iterable[UUID]) -> "Asked":
        """Return what is left when these files are done."""
        left = self.again.files.difference(done) if self.again else frozenset[UUID]()
        return replace(self, again=replace(self.again, files=left) if self.again and left else None)


NOTHING_MORE: Final = Asked()


def what_is_asked(
    index: Index, group: Group, files: tuple[UUID, ...], models: tuple[str, ...], phrases: tuple[str, ...]
) -> Asked:
    """Return what the parameters of a run ask for.

    Args:
        index: Needs the table files.
        group: With the models that there are.
        files: Of which files; empty: of all.
        models: Names of models whose answers are computed again.
        phrases: What to look for once.

    Raises:
        AskedError: There is no such file or model, or models and phrases are asked for at once.
    """
    if not (files or models or phrases):
        return NOTHING_MORE
    _require_models(group, models)
    chosen = _accepted(index, files)
    if not phrases:
        names = frozenset(models or (spec.name for spec in group.enabled))
        return Asked(Again(chosen, names)) if chosen else NOTHING_MORE
    if models:
        raise AskedError("models and phrases: phrases are looked for by every model that can. Leave models empty")
    if not any(spec.task == "phrases" for spec in group.enabled):
        raise AskedError("phrases: no enabled model looks for any. Enable one in models/group.toml")
    return Asked(files=frozenset(files) or None, phrases=tuple(dict.fromkeys(phrases)))


def _require_models(group: Group, models: tuple[str, ...]) -> None:
    known = sorted(spec.name for spec in group.enabled)
    if unknown := [name for name in models if name not in known]:
        raise AskedError(f"models: no enabled model {', '.join(unknown[:NAMED])}; enabled are {', '.join(known)}")


def _accepted(index: Index, files: tuple[UUID, ...]) -> frozenset[UUID]:
    """Return the files that were asked for, or all."""
    where = "file_id IN (SELECT unnest($files::UUID[]))" if files else "$files::UUID[] IS NOT NULL"
    sql = f"SELECT file_id FROM files WHERE status = 'accepted' AND {where}"  # noqa: S608  from above
    found = frozenset(row["file_id"] for row in index.query(sql, {"files": list(files)}))
    if unknown := [str(one) for one in dict.fromkeys(files) if one not in found]:
        more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
        raise AskedError(
            f"files: no accepted file {', '.join(unknown[:NAMED])}{more}. GET /api/files?status=accepted lists the ids"
        )
    return found
