"""Tokens and the texts that they spell. It must not know which model reads or writes them.

Source: byte-pair encoding as SentencePiece does it (Kudo and Richardson 2018, arXiv:1808.06226): of all neighbours that
make a token together, those with the lowest number are joined first.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

UNKNOWN: Final = 0
START: Final = 1
END: Final = 2
FIRST_PIECE: Final = 259  # before it are the marks above and one token for each byte
WORD_START: Final = "\N{LOWER ONE EIGHTH BLOCK}"


@dataclass(frozen=True, slots=True)
class Spelled:
    """A text, and for each of its characters the place of the token that it came from."""

    text: str
    token_of_character: tuple[int, ...]


class Tokenizer:
    """The tokens of a model, which spell any text.

    Attributes:
        begins_word: Of each token, whether a word begins with it. Shape (token,).
        ends_word: Of each token, whether a word has ended where it follows: a space, a mark, the end. Shape (token,).
    """

    def __init__(self, content: bytes) -> None:
        """Read a tokenizer.bin: each token is one byte, its length, and its bytes."""
        self._tokens = read_tokens(content)
        self._numbers = {token: number for number, token in enumerate(self._tokens)}
        self._longest = max(map(len, self._tokens), default=0)  # bytes
        texts = [token.decode("utf-8", errors="replace") for token in self._tokens]
        self.begins_word: NDArray[np.bool_] = np.array([text.startswith(WORD_START) for text in texts])
        self.ends_word: NDArray[np.bool_] = self.begins_word | [
            number == END or (number >= FIRST_PIECE and not (text[:1].isalnum() or text[:1] == "'"))
            for number, text in enumerate(texts)
        ]

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, as the model itself would write it."""
        if not text:
            return []
        return self._encoded(f" {text}".replace(" ", WORD_START))

    def beginnings(self, tokens: Sequence[int], place: int) -> list[int]:
        """Return every token that may stand at `place` of some text's tokens, those before it being the same."""
        rest = b"".join(self._tokens[token] for token in tokens[place : place + self._longest])[: self._longest]
        found = [self._numbers.get(rest[:end]) for end in range(1, len(rest) + 1)]
        return [number for number in found if number is not None]

    def respelled(self, tokens: Sequence[int], place: int, token: int) -> list[int]:
        """Return tokens of the same text, with one of its `beginnings` at `place`."""
        rest = b"".join(self._tokens[token] for token in tokens[place:])[len(self._tokens[token]) :]
        whole = rest.decode("utf-8", errors="ignore").encode()  # without what is left of a character cut in two
        cut = rest[: len(rest) - len(whole)]
        behind = [self._numbers.get(bytes([byte]), UNKNOWN) for byte in cut]
        return [*tokens[:place], token, *behind, *self._encoded(whole.decode())]

    def decode(self, tokens: Sequence[int]) -> Spelled:
        """Return the text of tokens, without the space that the first word begins with."""
        content = b""
        owners: list[int] = []  # of each byte
        for place, token in enumerate(tokens):
            content += self._tokens[token]
            owners += [place] * len(self._tokens[token])
        text, owner_of_character, byte = "", [], 0
        for character in content.decode("utf-8", errors="replace"):
            text += " " if character == WORD_START else character
            owner_of_character.append(owners[min(byte, len(owners) - 1)])
            byte += len(character.encode()) if character != "\N{REPLACEMENT CHARACTER}" else 1
        stripped = text.lstrip()
        return Spelled(stripped, tuple(owner_of_character[len(text) - len(stripped) :]))

    def _encoded(self, text: str) -> list[int]:
        parts = [character.encode() for character in text]
        while joined := min(
            ((number, at) for at, pair in enumerate(itertools.pairwise(parts)) if (number := self._number(pair))),
            default=None,
        ):
            at = joined[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return [number for part in parts for number in self._spelled(part)]

    def _number(self, pair: tuple[bytes, bytes]) -> int | None:
        return self._numbers.get(pair[0] + pair[1])

    def _spelled(self, part: bytes) -> list[int]:
        """Return the token of a part, or else those of its bytes."""
        if part in self._numbers:
            return [self._numbers[part]]
        return [self._numbers.get(bytes([byte]), UNKNOWN) for byte in part]


def read_tokens(content: bytes) -> list[bytes]:
    """Return the tokens of a tokenizer.bin."""
    tokens, at = [], 0
    while at < len(content):
        end = at + 1 + content[at]
        tokens.append(content[at + 1 : end])
        at = end
    return tokens
