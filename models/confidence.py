"""From a decoder's probability to a confidence: how often such a detection is right. It must not know which decoder."""

import math
from dataclasses import dataclass

from models.spotting import Spot


@dataclass(frozen=True, slots=True)
class Calibration:
    """Logistic calibration (Platt 1999), fitted by `make eval` on recordings that its figures are not taken from.

    A phrase that the text has is more often right than one beside it of the same probability, and in an utterance that
    the decoder is unsure of, in noise or of no speech at all, either is less often right.
    """

    offset: float
    log_odds: float  # weight of the logit of the phrase's probability
    heard: float  # added where the text has the phrase
    quality: float  # weight of the text's mean log-probability

    def of(self, spot: Spot, quality: float) -> float:
        """Return the confidence of a phrase, from 0 to 1.

        Args:
            spot: The phrase at its place.
            quality: Mean log-probability of the tokens of the utterance's text.
        """
        score = self.offset + self.quality * quality + self.log_odds * logit(math.exp(spot.log_probability))
        score += self.heard if spot.heard else 0.0
        return round(1 / (1 + math.exp(-score)), 4)


def logit(probability: float) -> float:
    """Return the log-odds of a probability, which is kept off 0 and 1 by a millionth."""
    bounded = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))
