"""How sure a model is of what it finds: from evidence to how often such a detection is right, whatever the model.

Source: logistic calibration (Platt 1999), here of several kinds of evidence at once. `python -m tests.eval.fitting`
fits the weights, on recordings that the figures of `make eval` are not taken from.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from models.bounds import check_number, shown
from models.phrases import MAX_CHARACTERS

MAX_WEIGHT: Final = 1e6  # far beyond what any fit gives, and no sum of such overflows

Evidence = Mapping[str, float]
"""What speaks for a detection, by name."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A logistic regression."""

    offset: float
    weights: Mapping[str, float]  # of each kind of evidence

    def of(self, evidence: Evidence) -> float:
        """Return the confidence, from 0 to 1.

        Args:
            evidence: A value for each of `weights`.
        """
        score = self.offset + sum(weight * evidence[name] for name, weight in self.weights.items())
        return round(1 / (1 + math.exp(-min(max(score, -700.0), 700.0))), 4)


@dataclass(frozen=True, slots=True)
class Search:
    """What a model looks for, and what counts as found."""

    phrases: tuple[str, ...]
    least_confidence: float  # what is less likely is no detection
    calibration: Calibration

    @classmethod
    def of(cls, raw: Mapping[str, Any], evidence: Collection[str]) -> "Search":
        """Read what the group file says under [model.search].

        Args:
            raw: The table.
            evidence: The names of what the model weighs.

        Raises:
            KeyError: Something is missing.
            TypeError: There is something else, or of another type.
            ValueError: A number is out of its bounds, or a phrase too long.
        """
        phrases, least_confidence, fitted = raw["phrases"], raw["least_confidence"], raw["calibration"]
        if not isinstance(phrases, list | tuple) or not all(isinstance(phrase, str) for phrase in phrases):
            raise TypeError(f"`phrases` must be a list of texts, not {shown(phrases)}")
        if too_long := [phrase for phrase in phrases if len(phrase) > MAX_CHARACTERS]:
            raise ValueError(f"phrase {shown(too_long[0])} has more than {MAX_CHARACTERS} characters: shorten it")
        if not isinstance(fitted, Mapping):
            raise TypeError(f"`calibration` must be a table, not {shown(fitted)}")
        weights = {name: fitted[name] for name in ("offset", *evidence)}
        known = {"phrases", "least_confidence", "calibration"}
        if unknown := [name for name in fitted if name not in weights] + [name for name in raw if name not in known]:
            raise TypeError(f"no setting {', '.join(unknown)}")
        check_number("least_confidence", least_confidence, 0.0, 1.0)
        for name, weight in weights.items():
            check_number(f"calibration.{name}", weight, -MAX_WEIGHT, MAX_WEIGHT)
        offset = float(weights.pop("offset"))
        calibration = Calibration(offset, {name: float(weight) for name, weight in weights.items()})
        return cls(tuple(phrases), float(least_confidence), calibration)


def logit(probability: float) -> float:
    """Return the log-odds of a probability, which is kept off 0 and 1 by a millionth."""
    bounded = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))
