"""The real Moonshine on real recordings: what is said is found, and an answer depends on the utterance alone."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from features.denoising import denoised
from models import moonshine as moonshine_module
from models.group import ModelSpec
from models.moonshine import SAMPLE_RATE, Moonshine
from models.protocol import Answer, Detection
from models.registry import load_model
from models.tokens import Tokenizer
from tests.models.conftest import PROMPTS, heard

Waveform = NDArray[np.float32]

SPOKEN = {  # phrases of conftest that the texts of the prompts contain
    "agent-pass": ["please", "your", "password", "pound key"],
    "agent-alreadyon": ["please", "your", "agent number", "pound key"],
    "all-circuits-busy-now": [],
    "auth-thankyou": [],
    "conf-invalidpin": ["this conference"],
    "conf-locked": ["this conference"],
    "conf-onlyperson": ["currently the only person", "this conference"],
}


@pytest.fixture(scope="module")
def all_utterances(two_cities: list[Waveform], prompts: dict[str, Waveform]) -> list[Waveform]:
    """Long and short, at two levels."""
    return [*prompts.values(), *two_cities]


@pytest.fixture(scope="module")
def answers(moonshine: Moonshine, all_utterances: list[Waveform]) -> list[Answer]:
    """What Moonshine says of each of them, asked in order."""
    return [moonshine.predict(waveform) for waveform in all_utterances]


def labels(detections: tuple[Detection, ...]) -> list[str]:
    return [detection.label for detection in detections]


def with_settings(spec: ModelSpec, **settings: float) -> Moonshine:
    text = {name: value for name, value in settings.items() if name in spec.settings}
    search = {name: value for name, value in settings.items() if name not in spec.settings}
    model = load_model(replace(spec, settings=dict(spec.settings) | text, search=dict(spec.search) | search))
    assert isinstance(model, Moonshine)
    return model


@pytest.mark.parametrize("name", SPOKEN)
def test_the_phrases_of_a_prompt_are_found_and_no_others(
    moonshine: Moonshine, prompts: dict[str, Waveform], name: str
) -> None:
    assert sorted(labels(moonshine.predict(prompts[name]).detections)) == sorted(SPOKEN[name])


def test_the_phrases_of_a_reading_are_found_as_often_as_they_are_said(answers: list[Answer]) -> None:
    first, second = answers[-2:]
    assert labels(first.detections) == [
        "it was the best of times",
        "worst of times",
        "age of foolishness",
        "epoch",
        "epoch",
    ]
    assert labels(second.detections) == ["we were all going direct"] * 2
    assert first.text is not None
    assert first.text.startswith("It was the best of times, it was the worst of times.")


def test_detections_lie_inside_the_utterance_in_order_of_time(
    all_utterances: list[Waveform], answers: list[Answer]
) -> None:
    for waveform, answer in zip(all_utterances, answers, strict=True):
        found = answer.detections
        assert all(0 <= each.start_s < each.end_s <= len(waveform) / SAMPLE_RATE for each in found)
        assert all(earlier.start_s <= later.start_s for earlier, later in pairwise(found))


def test_a_phrase_is_placed_near_the_time_at_which_it_is_said(answers: list[Answer]) -> None:
    best, worst = answers[-2].detections[:2]
    assert best.start_s < 0.5
    assert best.end_s < worst.start_s
    assert worst.end_s < 5


def test_confidences_are_between_0_and_1(answers: list[Answer]) -> None:
    found = [each.confidence for answer in answers for each in answer.detections]
    assert len(found) > 10
    assert all(0 <= confidence <= 1 for confidence in found)
    assert len(set(found)) > 5


def test_an_answer_does_not_depend_on_what_was_asked_before(
    spec: ModelSpec, all_utterances: list[Waveform], answers: list[Answer]
) -> None:
    fresh = load_model(spec)
    later = [fresh.predict(waveform) for waveform in all_utterances[::-1]][::-1]
    assert later == answers
    assert embeddings(later) == embeddings(answers)


def embeddings(answers: list[Answer]) -> list[list[float]]:
    """Return what `==` leaves out."""
    found = [answer.embedding for answer in answers]
    assert all(embedding is not None and embedding.shape == (288,) for embedding in found)
    return [embedding.tolist() for embedding in found]


def test_the_decoders_probabilities_are_bit_identical_in_any_order(
    moonshine: Moonshine, prompts: dict[str, Waveform], answers: list[Answer]
) -> None:
    texts = dict(zip(prompts, [answer.text or "" for answer in answers], strict=False))
    alone = {name: moonshine.spot(moonshine.encode(waveform), texts[name]) for name, waveform in prompts.items()}
    mixed = {
        name: moonshine.spot(moonshine.encode(prompts[name]), texts[name])
        for name in sorted(prompts, key=lambda name: name[::-1])
    }
    assert alone == mixed
    assert any(found.spots for found in alone.values())


def test_a_text_that_was_read_before_is_not_read_again_and_gives_the_same_answer(
    spec: ModelSpec, all_utterances: list[Waveform], answers: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = load_model(spec)
    monkeypatch.setattr(Moonshine, "read", lambda *_: pytest.fail("it was read again"))
    again = [fresh.predict(waveform, answer.text) for waveform, answer in zip(all_utterances, answers, strict=True)]
    assert again == answers
    assert embeddings(again) == embeddings(answers)


def test_a_phrase_that_was_written_as_another_word_is_found_beside_the_text(spec: ModelSpec) -> None:
    (waveform,) = heard(PROMPTS / "vm-then-pound.wav")  # then press pound
    model = load_model(replace(spec, search=dict(spec.search) | {"phrases": ["press", "call"]}))
    answer = model.predict(waveform)
    assert answer.text == "Then pressed pound."
    assert labels(answer.detections) == ["press"]


def test_a_detection_less_likely_than_the_least_confidence_is_none(
    spec: ModelSpec, prompts: dict[str, Waveform]
) -> None:
    waveform = prompts["agent-pass"]
    found = with_settings(spec, least_confidence=0.0).predict(waveform).detections
    least = sorted(each.confidence for each in found)[len(found) // 2]
    kept = with_settings(spec, least_confidence=least).predict(waveform).detections
    assert kept == tuple(each for each in found if each.confidence >= least)
    assert 0 < len(kept) < len(found)


def test_a_quiet_copy_of_an_utterance_says_the_same(
    moonshine: Moonshine, all_utterances: list[Waveform], answers: list[Answer]
) -> None:
    for waveform, answer in zip(all_utterances, answers, strict=True):
        assert moonshine.predict(waveform * np.float32(0.01)).text == answer.text  # -40 dB


def test_the_waveform_is_left_as_it_was(moonshine: Moonshine, prompts: dict[str, Waveform]) -> None:
    waveform = prompts["auth-thankyou"]
    before = waveform.copy()
    moonshine.predict(waveform)
    np.testing.assert_array_equal(waveform, before)


@pytest.mark.parametrize("samples", [0, 1, 400, SAMPLE_RATE])
@pytest.mark.parametrize("level", [0.0, 1e-6, 0.5])
def test_an_utterance_without_speech_gets_an_answer_too(moonshine: Moonshine, samples: int, level: float) -> None:
    waveform = (level * np.random.default_rng(0).uniform(-1, 1, samples)).astype(np.float32)
    answer = moonshine.predict(waveform)
    assert answer.text is not None
    assert answer.detections == ()


def test_a_text_never_has_more_tokens_than_its_length_allows(
    spec: ModelSpec, two_cities: list[Waveform], weights: Path
) -> None:
    text = with_settings(spec, tokens_per_s=1, silence_s=0).predict(two_cities[0]).text
    tokens = Tokenizer((weights / "tokenizer.bin").read_bytes()).encode(text or "")
    assert len(tokens) == math.ceil(len(two_cities[0]) / SAMPLE_RATE)


def test_a_word_that_the_decoder_pieces_together_in_its_own_way_spoils_no_other(spec: ModelSpec) -> None:
    (waveform,) = heard(PROMPTS / "vm-undelete.wav")  # press 7 to undelete this message
    answer = load_model(replace(spec, search=dict(spec.search) | {"phrases": ["this"]})).predict(waveform)
    assert answer.text == "Press 7 to undele this message."
    (found,) = answer.detections
    assert found.confidence > 0.4


def test_only_an_utterance_that_nearly_drowns_is_given_less_noise(
    spec: ModelSpec, prompts: dict[str, Waveform], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(waveform: Waveform, *settings: Any) -> Waveform:
        asked.append(len(waveform))
        return denoised(waveform, *settings)

    monkeypatch.setattr(moonshine_module, "denoised", counted)
    model, clean = with_settings(spec), prompts["agent-pass"]
    model.predict(clean)
    assert asked == []
    noise = np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)
    drowned = clean + noise * np.float32(np.sqrt(np.mean(clean**2)))
    answer = model.predict(drowned)
    assert asked == [len(clean)]
    assert with_settings(spec, denoise_below_db=0.0).predict(drowned) != answer
    assert asked == [len(clean)]
    assert model.predict(drowned) == answer
