"""Prediction ids: everything a late label needs, checked."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.api.wire.prediction_id import Mint, PredictionId, Reader, Refusal, mark, read

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
VERSIONS = st.from_regex(r"v[0-9]{1,4}(-[0-9a-f]{6})?", fullmatch=True)


@given(VERSIONS, st.integers(0, 2**32 - 1), st.floats(0, 1, width=32), st.integers(0, 255))
def test_an_id_says_what_was_put_in(version: str, time: int, score: float, cell: int) -> None:
    text = Mint("uid", version, 41).mint(time, score, mark("late"), cell).decode()
    assert read(text, "uid") == PredictionId(version, time, 42, score, mark("late"), cell)
    assert read(text, "other") is Refusal.FOREIGN


@given(st.integers(0, 54), st.characters(codec="ascii"))
def test_a_changed_character_is_damage(place: int, other: str) -> None:
    text = Mint("uid", "v7", 1).mint(5, 0.5, 3, 10).decode()
    place %= len(text)
    changed = text[:place] + other + text[place + 1 :]
    assert read(changed, "uid") in ({Refusal.DAMAGED} if changed != text else {read(text, "uid")}) or same_bytes(
        changed, text
    )


def same_bytes(a: str, b: str) -> bool:
    """The last character of base64 may carry bits that mean nothing."""
    return a[:-1] == b[:-1]


@given(VERSIONS, st.integers(0, 2**32 - 1), st.floats(0, 1, width=32), st.integers(0, 255))
def test_a_keyed_id_says_what_was_put_in_to_who_has_the_key(version: str, time: int, score: float, cell: int) -> None:
    text = Mint("uid", version, 41, KEY).mint(time, score, mark("late"), cell).decode()
    assert read(text, "uid", KEY) == PredictionId(version, time, 42, score, mark("late"), cell)
    assert read(text, "uid", OTHER_KEY) is Refusal.DAMAGED
    assert read(text, "other", OTHER_KEY) is Refusal.FOREIGN
    assert read(text, "uid") is Refusal.DAMAGED


def test_with_a_key_a_plain_id_is_damaged() -> None:
    assert read(Mint("uid", "v7", 1).mint(5, 0.5, 3, 10).decode(), "uid", KEY) is Refusal.DAMAGED


@given(st.integers(0, 38), st.integers(0, 7))
def test_no_bit_of_a_keyed_id_can_be_changed(byte: int, bit: int) -> None:
    text = Mint("uid", "v7", 1, KEY).mint(5, 0.5, 3, 10)
    body = bytearray(urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
    body[byte % len(body)] ^= 1 << bit
    changed = urlsafe_b64encode(body).rstrip(b"=").decode()
    assert isinstance(read(changed, "uid", KEY), Refusal)


def test_a_key_that_is_too_short_or_long_is_refused() -> None:
    for key in (b"x" * 15, b"x" * 65):
        with pytest.raises(ValueError, match="16 to 64"):
            Mint("uid", "v7", 1, key)
        with pytest.raises(ValueError, match="16 to 64"):
            Reader("uid", key)


@given(st.text(max_size=120))
def test_any_text_gets_an_answer(text: str) -> None:
    assert isinstance(read(text, "uid"), PredictionId | Refusal)
    assert isinstance(read(text, "uid", KEY), PredictionId | Refusal)


def test_ids_are_unique() -> None:
    for key in (b"", KEY):
        mint = Mint("uid", "v7", 2**64 - 3, key)
        assert len({mint.mint(1, 0.5, 0, 1) for _ in range(100)}) == 100


def test_a_version_that_no_child_has_is_damage() -> None:
    for version, right in {"v7": True, "v7-00ff00": True, "v00ff00": True, "other": False, "v7\n": False}.items():
        found = read(Mint("uid", version, 1).mint(5, 0.5, 3, 10).decode(), "uid")
        assert (found is not Refusal.DAMAGED) is right, version
