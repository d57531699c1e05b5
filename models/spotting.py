"""Phrases by their own probability: not only in the text that a decoder chose, but wherever it might have gone on so.

The phrases are known in advance, and a text throws that away. Behind every beginning of the text the decoder gives a
probability to each phrase and to the end of its last word, and one that it wrote as another ("pressed") shows there.
Source: known-phrase scoring by a recogniser's own decoder, as in Weintraub 1993 (keyword spotting by LVCSR hypotheses).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.phrases import find_phrase, spellings, words_of
from models.tokens import END, Tokenizer

LEAST: Final = math.log(0.01)  # a phrase whose first token is less probable is not looked at
MOST: Final = 3  # places at which a phrase is scored beside the text
UNLIKELY: Final = math.log(0.02)  # a decoder that writes the likeliest token hardly ever writes one below it
RESPELLINGS: Final = 4  # at most, of a text

Score = Callable[[Sequence[int]], NDArray[np.float32]]
"""Returns the log-probability of every token behind each beginning of some tokens. Shape (1 + len(tokens), token)."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A phrase at some words of a text."""

    phrase: str
    first_word: int  # of the text: where the phrase begins, or would
    words: int  # of the text, that the phrase is or would take the place of; 0 behind the last one
    log_probability: float
    heard: bool  # the text has it


@dataclass(frozen=True, slots=True)
class Spotted:
    """What was found, and how sure the decoder is of the text itself."""

    spots: tuple[Spot, ...]
    quality: float  # mean log-probability of the text's tokens and its end


class Spotter:
    """Looks for phrases in texts of one decoder."""

    def __init__(self, phrases: Sequence[str], tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._spelled = {
            phrase: [tuple(tokenizer.encode(spelling)) for spelling in spellings(phrase)] for phrase in phrases
        }

    def spot(self, text: str, score: Score) -> Spotted:
        """Return where phrases are in a text, or might have been.

        Args:
            text: What the decoder read.
            score: That decoder, given the same utterance.
        """
        tokens, logs = self._written(text, score)
        chosen = _chosen(tokens, logs)
        places = _Places(text, tokens, self._tokenizer)
        spots: list[Spot] = []
        for phrase, spelled in self._spelled.items():
            heard = [
                Spot(phrase, first, last - first, self._along(places, first, last, chosen, logs), heard=True)
                for first, last in find_phrase(phrase, places.words)
            ]
            taken = {word for spot in heard for word in range(spot.first_word - 1, spot.first_word + spot.words + 1)}
            spots += heard
            spots += self._beside(phrase, spelled, places, logs, score, taken)
        return Spotted(tuple(spots), float(np.mean(chosen)))

    def _written(self, text: str, score: Score) -> tuple[list[int], NDArray[np.float32]]:
        """Return the tokens that the decoder wrote a text in, and its log-probabilities behind each beginning of them.

        Nearly always they are the tokenizer's. Where one of those is unlikely, the decoder has pieced some odd word
        together otherwise: then the likeliest token that goes on with the text takes its place, as it did for the
        decoder.
        """
        tokens = self._tokenizer.encode(text)
        logs = score(tokens)
        best, settled = (tokens, logs), 0
        for _ in range(RESPELLINGS):
            for place in self._doubtful(tokens, logs, settled):
                likeliest = max(self._tokenizer.beginnings(tokens, place), key=lambda token: float(logs[place, token]))
                if likeliest != tokens[place]:
                    break
            else:
                break
            tokens, settled = self._tokenizer.respelled(tokens, place, likeliest), place + 1
            logs = score(tokens)
            best = max(best, (tokens, logs), key=lambda written: float(np.mean(_chosen(*written))))
        return best

    def _doubtful(self, tokens: list[int], logs: NDArray[np.float32], settled: int) -> list[int]:
        """Return the places, from `settled` on, of unlikely tokens, and those before them in their words."""
        found: list[int] = []
        word: list[int] = []
        for place, token in enumerate(tokens):
            word = [place] if self._tokenizer.begins_word[token] else [*word, place]
            if logs[place, token] < UNLIKELY:
                found += word
                word = []
        return [place for place in found if place >= settled]

    def _along(self, places: "_Places", first: int, last: int, chosen: list[float], logs: NDArray[np.float32]) -> float:
        """Return the log-probability of words of the text itself."""
        tokens = places.tokens_of(first, last)
        return sum(chosen[token] for token in tokens) + self._ended(logs[tokens[-1] + 1])

    def _beside(
        self,
        phrase: str,
        spelled: list[tuple[int, ...]],
        places: "_Places",
        logs: NDArray[np.float32],
        score: Score,
        taken: set[int],
    ) -> Iterator[Spot]:
        """Yield a phrase at the words that it may really have been, none of them taken; the best one of neighbours."""
        free = [(word, place) for word, place in places.starts if word not in taken]
        likely = sorted(
            (
                (float(logs[place, tokens[0]]), word, place, tokens)
                for word, place in free
                for tokens in spelled
                if logs[place, tokens[0]] > LEAST
            ),
            reverse=True,
        )
        length = len(words_of(phrase))
        found: dict[int, Spot] = {}
        for _, word, place, tokens in likely[:MOST]:
            after = score([*places.tokens[:place], *tokens])
            total = sum(float(after[place + step, token]) for step, token in enumerate(tokens))
            total += self._ended(after[place + len(tokens)])
            replaced = min(length, len(places.words) - word)
            spot = Spot(phrase, word, replaced, total, heard=False)
            near = [at for at in found if abs(at - word) <= length]
            if all(found[at].log_probability < total for at in near):
                for at in near:
                    del found[at]
                found[word] = spot
        yield from found.values()

    def _ended(self, logs: NDArray[np.float32]) -> float:
        """Return the log-probability that a word has ended."""
        return min(0.0, float(np.log(np.exp(logs[self._tokenizer.ends_word].astype(np.float64)).sum() + 1e-30)))


def _chosen(tokens: Sequence[int], logs: NDArray[np.float32]) -> list[float]:
    """Return the log-probability of each token, and of the end behind them."""
    return [float(logs[place, token]) for place, token in enumerate([*tokens, END])]


class _Places:
    """Where the words of a text are among its tokens."""

    def __init__(self, text: str, tokens: list[int], tokenizer: Tokenizer) -> None:
        self.tokens = tokens
        self.words = words_of(text)
        self._owners = tokenizer.decode(tokens).token_of_character
        starts = {self._owners[word.start]: number for number, word in reversed(list(enumerate(self.words)))}
        self.starts = [(number, place) for place, number in starts.items()] + [(len(self.words), len(tokens))]

    def tokens_of(self, first: int, last: int) -> list[int]:
        """Return the places of the tokens that words are made of, in order."""
        start, end = self.words[first].start, self.words[last - 1].end
        return sorted(set(self._owners[start:end]))
