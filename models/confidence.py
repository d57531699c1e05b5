"""From a decoder's probability to a confidence: how often such a detection is right. It must not know which decoder."""

import math
from dataclasses import dataclass
from typing import Final

from models.spotting import Spot

MAX_RANGE_DB: Final = 25.0  # beyond it there is hardly any noise


@dataclass(frozen=True, slots=True)
class Calibration:
    """Logistic calibration (Platt 1999), fitted by `make eval` on recordings that its figures are not taken from.

    A phrase that the text has is more often right than one beside it of the same probability, the more so the less
    noise there is: in noise the decoder writes fluently what nobody said.
    """

    offset: float
    log_odds: float  # weight of the logit of the phrase's probability
    quality: float  # weight of the text's mean log-probability
    level_range: float  # weight of the utterance's range of levels in dB
    heard: float  # added where the text has the phrase
    heard_level_range: float  # weight of the range of levels there, besides

    def of(self, spot: Spot, quality: float, range_db: float) -> float:
        """Return the confidence of a phrase, from 0 to 1.

        Args:
            spot: The phrase at its place.
            quality: Mean log-probability of the tokens of the utterance's text.
            range_db: The utterance's range of levels, `features.levels.level_range_db`.
        """
        range_db = min(range_db, MAX_RANGE_DB)
        score = self.offset + self.log_odds * logit(math.exp(spot.log_probability))
        score += self.quality * quality + self.level_range * range_db
        score += (self.heard + self.heard_level_range * range_db) if spot.heard else 0.0
        return round(1 / (1 + math.exp(-score)), 4)


def logit(probability: float) -> float:
    """Return the log-odds of a probability, which is kept off 0 and 1 by a millionth."""
    bounded = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))
