"""Numbers in words: each one has its own, and they are read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.numbers import cardinal, ordinal
from models.phrases import find_phrase, words_of


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (20, "twenty"),
        (99, "ninety nine"),
        (100, "one hundred"),
        (1_205, "one thousand two hundred five"),
        (10**9 + 1, "one billion one"),
    ],
)
def test_a_number_is_said_in_words(number: int, words: str) -> None:
    assert " ".join(cardinal(number)) == words


@pytest.mark.parametrize(
    ("number", "words"), [(1, "first"), (12, "twelfth"), (40, "fortieth"), (83, "eighty third"), (100, "one hundredth")]
)
def test_a_place_in_an_order_is_said_in_words(number: int, words: str) -> None:
    assert " ".join(ordinal(number)) == words


@given(number=st.integers(1, 10**12 - 1))
def test_a_number_with_commas_is_found_in_its_words_and_they_in_it(number: int) -> None:
    written, said = f"{number:,}", " ".join(cardinal(number))
    for phrase, text in ((written, said), (said, written)):
        assert (0, len(words_of(text))) in list(find_phrase(phrase, words_of(text)))


@given(one=st.integers(0, 999_999), other=st.integers(0, 999_999))
def test_two_numbers_have_the_same_words_just_when_they_are_the_same(one: int, other: int) -> None:
    assert (cardinal(one) == cardinal(other)) == (one == other)
