"""Phrases in text: whole words, whatever their case and punctuation."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.phrases import find_phrase, words_of

plain_words = st.lists(st.sampled_from(["a", "b", "yes", "no", "don't", "42"]), max_size=8)


def places(phrase: str, text: str) -> list[tuple[int, int]]:
    return list(find_phrase(phrase, words_of(text)))


def test_words_are_lower_case_and_know_their_place() -> None:
    text = "Well, DON'T hang up!"
    assert [word.text for word in words_of(text)] == ["well", "don't", "hang", "up"]
    assert [text[word.start : word.end] for word in words_of(text)] == ["Well", "DON'T", "hang", "up"]


@pytest.mark.parametrize("text", ["thank you", "Thank you.", "THANK YOU!", "thank, you", "“Thank\n  you”", "thank-you"])
@pytest.mark.parametrize("phrase", ["thank you", "Thank You", " thank  you? "])
def test_case_punctuation_and_spaces_do_not_count(phrase: str, text: str) -> None:
    assert places(phrase, text) == [(0, 2)]


def test_a_curly_apostrophe_is_an_apostrophe_on_either_side() -> None:
    assert places("don't", "I don\N{RIGHT SINGLE QUOTATION MARK}t know") == [(1, 2)]
    assert places("don\N{RIGHT SINGLE QUOTATION MARK}t", "I don't know") == [(1, 2)]


def test_quotation_marks_around_a_word_are_not_part_of_it() -> None:
    assert places("no", "she said 'no' twice") == [(2, 3)]


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("is", "this"),
        ("art", "party's start"),
        ("no", "know"),
        ("don", "don't"),
        ("4", "42"),
        ("thank you", "thank your"),
    ],
)
def test_a_part_of_a_word_is_no_match(phrase: str, text: str) -> None:
    assert places(phrase, text) == []


def test_a_phrase_of_several_words_must_stand_together_and_in_order() -> None:
    assert places("pound key", "press the pound key, then the key pound, or pound a key") == [(2, 4)]


def test_every_place_is_found() -> None:
    assert places("yes", "yes no yes, yes") == [(0, 1), (2, 3), (3, 4)]


def test_overlapping_places_are_all_found() -> None:
    assert places("a b a", "a b a b a") == [(0, 3), (2, 5)]


@pytest.mark.parametrize("phrase", ["", "  ", "...", "'", "_"])
def test_a_phrase_without_words_is_nowhere(phrase: str) -> None:
    assert places(phrase, "yes, and no") == []


@pytest.mark.parametrize("text", ["", "?!", "yes"])
def test_a_phrase_longer_than_the_text_is_not_in_it(text: str) -> None:
    assert places("yes and no", text) == []


def test_the_form_in_which_an_accent_is_written_does_not_count() -> None:
    for form in ("NFC", "NFD"):
        for other in ("NFC", "NFD"):
            phrase, text = unicodedata.normalize(form, "café"), unicodedata.normalize(other, "the Café is open")
            assert places(phrase, text) == [(1, 2)]


@given(before=plain_words, phrase=plain_words.filter(bool), after=plain_words)
def test_a_phrase_is_found_wherever_it_is_put(before: list[str], phrase: list[str], after: list[str]) -> None:
    found = places(" ".join(phrase), ", ".join(before + phrase + after).upper())
    assert (len(before), len(before) + len(phrase)) in found
    assert all((before + phrase + after)[first:last] == phrase for first, last in found)


@given(st.text())
def test_words_lie_in_the_text_in_order_without_overlap(text: str) -> None:
    end = 0
    for word in words_of(text):
        assert end <= word.start < word.end <= len(text)
        end = word.end
