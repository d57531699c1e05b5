"""Names of files as clients write them, and as they are shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dispositions import NAME_BYTES, read_disposition


def name_in(parameters: bytes) -> str | None:
    field, name = read_disposition(b'form-data; name="file"; ' + parameters)
    assert field == "file"
    return name


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (b'filename="call 17.wav"', "call 17.wav"),
        (b"filename=call.wav", "call.wav"),
        (b'filename="a;b=c.wav"', "a;b=c.wav"),
        (b'FileName = "a.wav" ; x=y', "a.wav"),
        (b'filename="say %22hi%22.wav"', 'say "hi".wav'),  # browsers, curl
        (b'filename="a%0D%0Ab.wav"', "a\r\nb.wav"),
        (b'filename="100%25 a%2Fb.wav"', "100%25 a%2Fb.wav"),  # what browsers do not encode is as it is
        (rb'filename="say \"hi\".wav"', 'say "hi".wav'),  # RFC 9110's quoted string
        (rb'filename="a\\b.wav"', r"a\b.wav"),  # httpx
        (rb'filename="a\b.wav"', r"a\b.wav"),  # browsers
        (b'filename="C:\\x\\"', "C:\\x\\"),
        (b'filename="C:\\x\\"; other="1"', "C:\\x\\"),
        ('filename="тест 🎧.wav"'.encode(), "тест 🎧.wav"),
        (b'filename="caf\xe9.wav"', "café.wav"),  # not UTF-8
        (b"filename*=UTF-8''%D1%82%20a.wav", "т a.wav"),
        (b"filename=\"a.wav\"; filename*=utf-8'en'%c3%a9.wav", "é.wav"),
        (b"filename*=UTF-8''%c3%a9.wav; filename=\"a.wav\"", "é.wav"),
        (b"filename*=iso-8859-1''caf%E9.wav", "café.wav"),
        (b"filename=\"a.wav\"; filename*=koi8-r''%C1", "a.wav"),  # nobody has to know others
        (b'filename="a.wav"; filename*=nonsense', "a.wav"),
        (b'filename=""', ""),
        (b"filename=", ""),
        (b'filename="a.wav"; filename="b.wav"', "a.wav"),
        (b"other=1", None),
        (b'filename="\xed\xa0\x80.wav"', "\ufffd\ufffd\ufffd.wav"),  # a lone surrogate
        (b"filename*=UTF-8''%ED%A0%80", "\ufffd\ufffd\ufffd"),
        ('filename="\u202egnp.wav"'.encode(), "\u202egnp.wav"),
        (b'filename="../../etc/passwd"', "../../etc/passwd"),
        (b'filename="a\0b.wav"', "a\0b.wav"),
    ],
)
def test_a_name_is_what_the_client_calls_it(parameters: bytes, name: str | None) -> None:
    assert name_in(parameters) == name


def test_a_long_name_is_cut_at_a_whole_character() -> None:
    assert name_in(b'filename="' + b"x" * 1024 + b'"') == "x" * NAME_BYTES
    assert name_in('filename="{}"'.format("x" + "🎧" * 1000).encode()) == "x" + "🎧" * 255


@pytest.mark.parametrize("value", [b"", b"form-data", b"form-data; filename=a", b"name", b";", b"form-data; name"])
def test_what_names_no_field_has_none(value: bytes) -> None:
    assert read_disposition(value)[0] is None


@given(st.binary(max_size=200), st.booleans())
def test_anything_is_read_as_text_that_can_be_written(value: bytes, quoted: bool) -> None:
    parameters = b'filename="' + value + b'"' if quoted else value
    _, name = read_disposition(b"form-data; " + parameters)
    assert name is None or len(name.encode()) <= NAME_BYTES
