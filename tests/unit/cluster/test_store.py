"""Stores keep the newest state, found by name, owner and label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from homeostat.api.meta import Meta
from homeostat.cluster.store import Store


@dataclass(frozen=True)
class Thing:
    meta: Meta
    owner: str = ""


def thing(name: str, version: int, *, uid: str = "u1", owner: str = "", **labels: str) -> Thing:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Thing(Meta("ml", name, uid, str(version), 1, labels, {}, at, deleting=False), owner)


@pytest.fixture
def store() -> Store[Thing]:
    return Store(("team",), owner_of=lambda t: t.owner)


def test_an_older_state_is_not_taken(store: Store[Thing]) -> None:
    assert store.put(thing("a", 10))
    assert not store.put(thing("a", 9))
    assert store.get("ml", "a") == thing("a", 10)


def test_versions_are_compared_as_numbers(store: Store[Thing]) -> None:
    store.put(thing("a", 9))
    assert store.put(thing("a", 10))


def test_another_object_of_the_same_name_is_taken(store: Store[Thing]) -> None:
    store.put(thing("a", 10))
    assert store.put(thing("a", 3, uid="u2"))


def test_a_changed_label_moves_the_object(store: Store[Thing]) -> None:
    store.put(thing("a", 1, team="red"))
    store.put(thing("a", 2, team="blue"))
    assert store.labelled("ml", "team", "red") == ()
    assert [t.meta.name for t in store.labelled("ml", "team", "blue")] == ["a"]


def test_children_are_found_by_owner_until_they_are_gone(store: Store[Thing]) -> None:
    store.put(thing("b", 1, owner="o"))
    store.put(thing("a", 1, owner="o"))
    assert [t.meta.name for t in store.owned_by("o")] == ["a", "b"]
    store.drop("ml", "a", "u1")
    assert [t.meta.name for t in store.owned_by("o")] == ["b"]


def test_a_label_that_is_not_indexed_is_a_mistake(store: Store[Thing]) -> None:
    store.put(replace(thing("a", 1)))
    with pytest.raises(KeyError):
        store.labelled("ml", "colour", "red")


def test_a_late_word_of_a_dropped_object_brings_it_not_back(store: Store[Thing]) -> None:
    store.put(thing("a", 1))
    store.drop("ml", "a", "u1")
    assert not store.put(thing("a", 2))
    assert store.put(thing("a", 3, uid="u2"))


def test_the_end_of_an_object_does_not_take_the_next_one_of_its_name(store: Store[Thing]) -> None:
    store.put(thing("a", 1))
    store.put(thing("a", 5, uid="u2"))
    assert store.drop("ml", "a", "u1") is None
    assert store.get("ml", "a") == thing("a", 5, uid="u2")
