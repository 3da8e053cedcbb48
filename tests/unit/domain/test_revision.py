"""The same content has the same digest."""

from hypothesis import given
from hypothesis import strategies as st

from homeostat.domain.revision import canonical, digest

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), values))
def test_the_order_of_keys_does_not_matter(content: dict[str, object]) -> None:
    assert digest(content) == digest(dict(reversed(content.items())))


def test_a_whole_float_equals_its_integer_as_the_api_server_may_store_either() -> None:
    assert digest({"C": 1.0}) == digest({"C": 1})


def test_other_content_has_another_digest() -> None:
    assert digest({"a": [1, 2]}) != digest({"a": [2, 1]})


def test_the_digest_says_how_it_was_made() -> None:
    assert digest({}).startswith("sha256:")
    assert canonical({"b": 1, "a": [True, None]}) == b'{"a":[true,null],"b":1}'
