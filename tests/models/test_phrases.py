"""Phrases in text: whole words, whatever their case, punctuation and joints, and numbers however they are written."""

import itertools
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.phrases import MAX_CHARACTERS, MAX_READINGS, find_phrase, spellings, words_of

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


SAME = [
    ("5", "five"),
    ("25", "twenty-five", "twenty five"),
    ("25", "two five", "2 5"),
    ("205", "two hundred five", "two hundred and five", "two hundred 5"),
    ("205", "two oh five", "two zero five", "2 o 5"),
    ("100", "a hundred", "one hundred", "1 hundred", "A HUNDRED"),
    ("1500", "1,500", "fifteen hundred", "one thousand five hundred", "a thousand five hundred", "15 hundred"),
    ("2505", "2,505", "twenty-five hundred and five", "two thousand, five hundred and five"),
    ("5,000", "5000", "five thousand", "5 thousand"),
    ("1,000,000", "one million", "a million"),
    ("1984", "nineteen eighty-four", "19 84"),
    ("1905", "nineteen oh five", "19 05"),
    ("1905", "nineteen hundred and five", "19 hundred 5"),
    ("1st", "first", "First"),
    ("21st", "twenty-first", "twenty first"),
    ("30th", "thirtieth"),
    ("112th", "one hundred and twelfth", "a hundred twelfth"),
    ("50%", "fifty percent", "fifty per cent", "50 percent", "50 %"),
    ("3.5", "three point five", "3 point 5"),
    ("3.14", "three point one four"),
    ("10am", "ten am", "10 a.m.", "ten A.M.", "10 AM"),
    ("10:05 pm", "ten oh five p.m."),
    ("goodbye", "good-bye", "good bye", "Goodbye"),
    ("voicemail", "voice mail", "voice-mail"),
    ("email", "e-mail", "E-Mail"),
    ("press 5 for voice mail", "press five for voicemail"),
    ("I.T.", "I T", "i. t."),
]


@pytest.mark.parametrize(("phrase", "other"), [pair for same in SAME for pair in itertools.permutations(same, 2)])
def test_what_is_said_the_same_is_the_same_phrase_however_it_is_written(phrase: str, other: str) -> None:
    assert places(phrase, f"well, {other}, thanks") == [(1, 1 + len(words_of(other)))]


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("I.T.", "Is it here?"),
        ("it", "the I.T. department"),
        ("U.S.", "call us now"),
        ("us", "the U.S. and you"),
        ("alive", "this is a live show"),
        ("a live show", "alive show"),
        ("am", "a.m."),
        ("10am", "ten a.mail"),
        ("e-mail", "a mail"),
        ("zero", "oh, one moment"),
        ("zero", "five, oh no"),
        ("100", "hundred"),
        ("one hundred", "a hundredth"),
        ("205", "two hundred and fifty"),
        ("205", "two hundred or five"),
        ("two five", "two and five"),
        ("5", "and 25"),
        ("1500", "fifteen thousand"),
        ("1st", "one"),
        ("50%", "fifty of them"),
        ("50", "505"),
    ],
)
def test_what_is_said_otherwise_is_no_match(phrase: str, text: str) -> None:
    assert places(phrase, text) == []


def test_a_number_in_words_holds_its_last_one_and_nothing_before_it() -> None:
    assert places("five", "two hundred and five") == [(3, 4)]


def test_a_number_is_found_in_its_share_and_in_its_fraction() -> None:
    assert places("fifty", "50% of it") == places("fifty", "fifty percent of it") == [(0, 1)]
    assert places("three", "3.5") == [(0, 1)]
    assert places("3.5", "35") == [(0, 1)], "the point may be silent"


def test_digits_are_found_one_by_one() -> None:
    assert [places(digit, "press 3, 1.4 or 1,5") for digit in ("three", "1", "four", "5")] == [
        [(1, 2)],
        [(2, 3), (5, 6)],
        [(3, 4)],
        [(6, 7)],
    ]


def test_a_recogniser_may_write_a_phrase_in_other_cases_and_its_numbers_either_way() -> None:
    assert spellings("press five") == ["Press 5", "Press five", "press 5", "press five"]
    assert spellings(" Voice-mail ") == ["Voice mail", "Voice-mail", "voice mail"]
    assert {"25", "twenty five", "Twenty five", "two five"} <= set(spellings("25"))
    assert "ten am" in spellings("10am")
    assert spellings("...") == ["..."]


def test_the_longest_phrase_of_numbers_has_few_readings_and_is_found_soon() -> None:
    phrase = ("1984 " * MAX_CHARACTERS)[:MAX_CHARACTERS].strip()
    begin = time.process_time()
    assert places(phrase, f"so {phrase} it is") == [(1, 1 + len(words_of(phrase)))]
    assert len(spellings(phrase)) <= 2 * (MAX_READINGS + 3)
    assert time.process_time() - begin < 5


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
