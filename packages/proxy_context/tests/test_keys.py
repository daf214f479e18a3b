"""Keys: what is different stays different, what is equal is found again."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy_context import SmartCache
from proxy_context._keys import Part
from proxy_context.errors import SettingsError

CACHE = SmartCache(secret=b"a secret for this test")

texts = st.text(st.sampled_from("abs1\x00\ud800"), max_size=4)
blobs = st.lists(st.sampled_from([b"a", b"b", b"s"]), max_size=4).map(b"".join)
parts = st.one_of(texts, blobs, st.integers(-2, 2), st.booleans(), st.none(), st.floats())
questions = st.tuples(texts.filter(bool), st.lists(parts, max_size=4))


def identity(question: tuple[str, list[object]]) -> object:
    tenant, values = question
    return tenant, [(type(value), repr(value)) for value in values]


@given(questions, questions)
def test_different_questions_have_different_keys(
    one: tuple[str, list[str]], other: tuple[str, list[str]]
) -> None:
    """Two keys are equal when, and only when, the tenant and all parts are, types included."""
    same = identity(one) == identity(other)  # type: ignore[arg-type]
    assert (CACHE.key(one[0], *one[1]) == CACHE.key(other[0], *other[1])) == same
    digests = {CACHE.key(tenant, *values).digest for tenant, values in (one, other)}
    assert (len(digests) == 1) == same


@given(st.lists(blobs, min_size=2, max_size=4), st.data())
def test_where_a_part_ends_counts(values: list[bytes], data: st.DataObject) -> None:
    """The same bytes cut in other places make another key."""
    joined = b"".join(values)
    cut = data.draw(st.integers(0, len(joined)))
    assume([joined[:cut], joined[cut:]] != values)
    assert CACHE.key("ann", *values) != CACHE.key("ann", joined[:cut], joined[cut:])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["a", "b"], ["asb"]),
        (["a", b"b"], ["abb"]),
        ([b"", b""], [b"b"]),
        ([1, 2], ["1", "2"]),
        ([12], [1, 2]),
        ([None], []),
        ([""], []),
    ],
)
def test_parts_cannot_be_run_together(one: list[Part], other: list[Part]) -> None:
    """No text can imitate the border between two parts."""
    assert CACHE.key("ann", *one).digest != CACHE.key("ann", *other).digest
    assert CACHE.key("ann", *one).digest != CACHE.key("anns", *one).digest


@given(texts.filter(bool))
def test_a_tenant_is_not_a_part(text: str) -> None:
    """A tenant's name can't be moved into the parts, nor into a plain name."""
    assert CACHE.key(text, text).digest != CACHE.key(text).digest
    CACHE.set(text, b"plain")
    assert CACHE.key(text) not in CACHE
    assert CACHE.key(text, text) not in CACHE


def test_the_secret_decides() -> None:
    """Caches with one secret agree on keys; without one, no two caches do."""
    again = SmartCache(secret=b"a secret for this test")
    assert again.key("ann", "q") == CACHE.key("ann", "q")
    assert SmartCache().key("ann", "q").digest != SmartCache().key("ann", "q").digest
    assert len(CACHE.key("ann", "q").digest) == 32


def test_what_cannot_be_a_key_is_refused() -> None:
    """An empty tenant, an empty secret and a part without an encoding are errors with a remedy."""
    with pytest.raises(SettingsError, match="tenant is empty"):
        CACHE.key("", "q")
    with pytest.raises(SettingsError, match="secret is empty"):
        SmartCache(secret=b"")
    with pytest.raises(SettingsError, match="a key part is a dict: encode it to bytes"):
        CACHE.key("ann", {"a": 1})  # type: ignore[arg-type]


def test_numbers_of_any_spelling_are_parts() -> None:
    """Whole numbers, fractions and truth are told apart."""
    values: list[Part] = [1, 1.0, True, "1", b"1", None, "None", -0.0, 0.0, 0, False, math.inf]
    assert len({CACHE.key("ann", value) for value in values}) == len(values)
