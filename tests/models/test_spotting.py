"""Phrases by their probability: in the text, beside it, behind it, as a decoder of known probabilities has them.

The tokens are Moonshine's. The decoder is made up: what it might have written instead is given, and how likely. The
real one is in test_moonshine.py.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.spotting import Score, Spot, Spotted, Spotter
from models.tokens import END, Tokenizer

NEVER = 1e-12


@pytest.fixture(scope="module")
def tokenizer(weights: Path) -> Tokenizer:
    return Tokenizer((weights / "tokenizer.bin").read_bytes())


def decoder(tokenizer: Tokenizer, texts: Mapping[str | tuple[int, ...], float]) -> Score:
    """Return a decoder that writes each of some texts, or their tokens, with a probability."""
    written = {
        (*(tokenizer.encode(text) if isinstance(text, str) else text), END): weight for text, weight in texts.items()
    }

    def score(tokens: Sequence[int]) -> NDArray[np.float32]:
        logs = np.full((len(tokens) + 1, len(tokenizer.ends_word)), math.log(NEVER), np.float32)
        for place in range(len(tokens) + 1):
            following: Counter[int] = Counter()
            for each, weight in written.items():
                if each[:place] == tuple(tokens[:place]) and len(each) > place:
                    following[each[place]] += weight  # type: ignore[assignment]
            for token, weight in following.items():
                logs[place, token] = math.log(weight / following.total())
        return logs

    return score


def spotted(tokenizer: Tokenizer, phrase: str, text: str, **others: float) -> Spotted:
    """Look for a phrase in what a decoder wrote: `text` unless others are likely; their `_` are spaces."""
    texts = {text: 1 - sum(others.values())} | {name.replace("_", " "): share for name, share in others.items()}
    return Spotter([phrase], tokenizer).spot(text, decoder(tokenizer, texts))


def chances(found: Spotted) -> list[tuple[int, int, float, bool]]:
    return [
        (spot.first_word, spot.words, round(math.exp(spot.log_probability), 3), spot.heard)
        for spot in sorted(found.spots, key=lambda spot: spot.first_word)
    ]


def test_a_phrase_of_the_text_is_as_likely_as_its_own_words(tokenizer: Tokenizer) -> None:
    assert chances(spotted(tokenizer, "press", "then press pound", then_hold_pound=0.2)) == [(1, 1, 0.8, True)]
    assert chances(spotted(tokenizer, "pound", "then press pound", then_hold_pound=0.2)) == [(2, 1, 1.0, True)]


def test_a_phrase_that_was_written_as_another_word_is_found_in_its_place(tokenizer: Tokenizer) -> None:
    found = spotted(tokenizer, "press", "then pressed pound", then_press_pound=0.3)
    assert chances(found) == [(1, 1, 0.3, False)]


def test_a_phrase_behind_the_last_word_takes_the_place_of_none(tokenizer: Tokenizer) -> None:
    assert chances(spotted(tokenizer, "press", "then", then_press=0.3)) == [(1, 0, 0.3, False)]
    assert chances(spotted(tokenizer, "press", "", press=0.3)) == [(0, 0, 0.3, False)]


def test_a_phrase_of_several_words_takes_the_place_of_as_many_as_there_are(tokenizer: Tokenizer) -> None:
    found = spotted(tokenizer, "thank you", "so bank view now", so_thank_you_now=0.3)
    assert chances(found) == [(1, 2, 0.3, False)]
    assert chances(spotted(tokenizer, "thank you", "so bank", so_thank_you=0.3)) == [(1, 1, 0.3, False)]


def test_a_phrase_is_unlikely_where_its_last_word_goes_on(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("pound")[:1] == tokenizer.encode("p")
    ((_, _, chance, _),) = chances(spotted(tokenizer, "p", "press pound"))
    assert chance < 0.001
    ((_, _, chance, _),) = chances(spotted(tokenizer, "p", "press pound", press_p=0.4))
    assert chance == 0.4


def test_a_phrase_whose_beginning_is_unlikely_is_not_looked_at(tokenizer: Tokenizer) -> None:
    assert spotted(tokenizer, "press", "then hold", then_press=0.005).spots == ()


@pytest.mark.parametrize(("phrase", "other"), [("5", "press_five"), ("five", "press_5"), ("press", "Press")])
def test_a_phrase_is_found_however_the_decoder_would_have_written_it(
    tokenizer: Tokenizer, phrase: str, other: str
) -> None:
    found = spotted(tokenizer, phrase, "press nine" if "_" in other else "nine", **{other: 0.3})
    assert [chance for _, _, chance, _ in chances(found)] == [0.3]


def test_of_neighbours_the_likelier_one_is_kept_whichever_is_seen_first(tokenizer: Tokenizer) -> None:
    second = spotted(tokenizer, "call", "tall ball", call_ball=0.2, tall_call=0.5)
    assert [(word, heard) for word, _, _, heard in chances(second)] == [(1, False)]
    first = spotted(tokenizer, "call", "tall ball", call_ball=0.6, tall_call=0.1)
    assert [(word, heard) for word, _, _, heard in chances(first)] == [(0, False)]


def test_a_likely_beginning_does_not_make_a_phrase_the_likelier_of_neighbours(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("pound")) == 2
    found = spotted(tokenizer, "pound", "go on", patience=0.55, pound=0.05, go_pound=0.1)
    assert [(word, chance) for word, _, chance, _ in chances(found)] == [(1, 0.25)]


def test_a_phrase_may_be_at_several_places_that_are_apart(tokenizer: Tokenizer) -> None:
    found = spotted(tokenizer, "call", "tall men ball", call_men_ball=0.2, tall_men_call=0.4)
    assert chances(found) == [(0, 1, 0.2, False), (2, 1, 0.5, False)]


def test_beside_a_phrase_of_the_text_it_is_not_found_again(tokenizer: Tokenizer) -> None:
    found = spotted(tokenizer, "call", "tall call ball", call_call_ball=0.3, tall_call_call=0.3)
    assert [(word, heard) for word, _, _, heard in chances(found)] == [(1, True)]


def test_the_quality_is_the_mean_over_the_tokens_and_the_end(tokenizer: Tokenizer) -> None:
    found = spotted(tokenizer, "call", "then press", then=0.5)
    assert found.quality == pytest.approx(math.log(0.5) / 3)


def test_words_behind_one_that_was_pieced_together_otherwise_keep_their_probability(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("undelete this message")
    other = next(token for token in tokenizer.beginnings(tokens, 0) if token != tokens[0])
    pieced = tokenizer.respelled(tokens, 0, other)
    score = decoder(tokenizer, {tuple(pieced): 1.0})
    found = Spotter(["this"], tokenizer).spot("undelete this message", score)
    assert chances(found) == [(1, 1, 1.0, True)]
    assert found.quality == pytest.approx(0, abs=1e-6)


def test_each_phrase_is_looked_for_by_itself(tokenizer: Tokenizer) -> None:
    score = decoder(tokenizer, {"then pressed pound": 0.7, "then press pound": 0.3})
    alone = [Spotter([phrase], tokenizer).spot("then pressed pound", score) for phrase in ("press", "pound")]
    both = Spotter(["press", "pound"], tokenizer).spot("then pressed pound", score)
    assert both.spots == alone[0].spots + alone[1].spots
    assert all(isinstance(spot, Spot) and spot.log_probability <= 0 for spot in both.spots)
