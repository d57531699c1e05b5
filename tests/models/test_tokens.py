"""Tokens: texts are written in the tokens that the model itself would write, and come back whole."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.protocol import Answer
from models.tokens import END, Tokenizer, read_tokens


@pytest.fixture(scope="module")
def content(weights: Path) -> bytes:
    return (weights / "tokenizer.bin").read_bytes()


@pytest.fixture(scope="module")
def tokenizer(content: bytes) -> Tokenizer:
    return Tokenizer(content)


@given(st.lists(st.binary(max_size=255)))
def test_tokens_read_back_as_they_were_written(tokens: list[bytes]) -> None:
    assert read_tokens(b"".join(bytes([len(token)]) + token for token in tokens)) == tokens


def test_the_real_tokens_are_all_there(content: bytes) -> None:
    tokens = read_tokens(content)
    assert tokens[:3] == [b"<unk>", b"<s>", b"</s>"]
    assert len(tokens) == 32_768
    assert b"".join(bytes([len(token)]) + token for token in tokens) == content


@given(text=st.text(max_size=40).map(lambda text: " ".join(text.split())).filter(lambda text: "\u2581" not in text))
def test_any_text_comes_back_as_it_was(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)).text == text


@given(text=st.text(st.sampled_from("callpres,. é5'"), max_size=30))
def test_every_character_comes_from_a_token_in_order(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    spelled = tokenizer.decode(tokens)
    owners = spelled.token_of_character
    assert len(owners) == len(spelled.text)
    assert list(owners) == sorted(owners)
    assert all(0 <= owner < len(tokens) for owner in owners)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [  # as Moonshine wrote them, of recordings that say so
        ("Then press pound.", ["\u2581Then", "\u2581press", "\u2581p", "ound", "."]),
        ("Tw", ["\u2581Tw"]),
        ("Twelfth.", ["\u2581Tw", "elf", "th", "."]),
        (
            "Thank you for your patience.",
            ["\u2581Thank", "\u2581you", "\u2581for", "\u2581your", "\u2581p", "atience", "."],
        ),
    ],
)
def test_a_text_is_written_in_the_tokens_that_the_model_writes(
    content: bytes, tokenizer: Tokenizer, text: str, pieces: list[str]
) -> None:
    tokens = read_tokens(content)
    assert [tokens[token].decode() for token in tokenizer.encode(text)] == pieces


def test_a_word_ends_before_a_space_a_mark_and_the_end_and_before_nothing_else(tokenizer: Tokenizer) -> None:
    def following(text: str, piece: str) -> bool:
        first, *_ = tokenizer.encode(text + piece)[len(tokenizer.encode(text)) :]
        return bool(tokenizer.ends_word[first])

    assert tokenizer.ends_word[END]
    assert following("call", " me")
    assert following("call", ".")
    assert not following("p", "ound")
    assert not following("don", "'t")


def test_a_text_of_the_model_is_written_as_it_wrote_it(tokenizer: Tokenizer) -> None:
    answer = Answer(text="To reset the audio volume of the conference to the default level.")
    assert tokenizer.decode(tokenizer.encode(answer.text or "")).text == answer.text


@given(text=st.text(st.sampled_from("callpres,. é5'"), min_size=1, max_size=30), data=st.data())
def test_a_text_is_spelled_in_other_ways_from_any_place(tokenizer: Tokenizer, text: str, data: st.DataObject) -> None:
    tokens = tokenizer.encode(text)
    place = data.draw(st.integers(0, len(tokens) - 1))
    beginnings = tokenizer.beginnings(tokens, place)
    assert tokens[place] in beginnings
    for token in beginnings:
        way = tokenizer.respelled(tokens, place, token)
        assert way[: place + 1] == [*tokens[:place], token]
        assert tokenizer.decode(way).text == tokenizer.decode(tokens).text
