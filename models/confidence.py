"""How sure a model is of what it finds: from evidence to how often such a detection is right, whatever the model.

Source: logistic calibration (Platt 1999), here of several kinds of evidence at once. `python -m tests.eval.fitting`
fits the weights, on recordings that the figures of `make eval` are not taken from.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

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
        """
        fitted = dict(raw["calibration"])
        calibration = Calibration(float(fitted.pop("offset")), {name: float(fitted.pop(name)) for name in evidence})
        known = {"phrases", "least_confidence", "calibration"}
        if unknown := [*fitted, *(name for name in raw if name not in known)]:
            raise TypeError(f"no setting {', '.join(unknown)}")
        return cls(tuple(raw["phrases"]), float(raw["least_confidence"]), calibration)


def logit(probability: float) -> float:
    """Return the log-odds of a probability, which is kept off 0 and 1 by a millionth."""
    bounded = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))
