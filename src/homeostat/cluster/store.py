"""What was seen of the API server, by name, owner and label. Only newer versions of an object are taken."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, Protocol, TypeVar

from homeostat.api.meta import Meta

Place = tuple[str, str]
REMEMBERED: Final = 1000


class Seen(Protocol):
    """Anything with metadata."""

    @property
    def meta(self) -> Meta:
        """Its metadata."""
        ...


T = TypeVar("T", bound=Seen)


class Store(Generic[T]):
    """Objects of one kind. owner_of: the uid that an object is found under by `owned_by`."""

    def __init__(self, labels: tuple[str, ...] = (), owner_of: Callable[[T], str] | None = None) -> None:
        self._objects: dict[Place, T] = {}
        self._labels = labels
        self._owner_of = owner_of
        self._by_owner: dict[str, set[Place]] = {}
        self._by_label: dict[tuple[str, str, str], set[Place]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()

    def get(self, namespace: str, name: str) -> T | None:
        """The object, or None."""
        return self._objects.get((namespace, name))

    def all(self) -> Iterable[T]:
        """Every object."""
        return tuple(self._objects.values())

    def owned_by(self, uid: str) -> tuple[T, ...]:
        """All whose controller has this uid, by name."""
        return self._at(self._by_owner.get(uid, ()))

    def labelled(self, namespace: str, label: str, value: str) -> tuple[T, ...]:
        """All of a namespace with this label, by name. Raises KeyError for a label that is not indexed."""
        if label not in self._labels:
            raise KeyError(label)
        return self._at(self._by_label.get((namespace, label, value), ()))

    def put(self, found: T) -> bool:
        """Take it, unless what is here is as new. True when it was taken."""
        place = (found.meta.namespace, found.meta.name)
        if found.meta.uid in self._gone:  # a late answer to a write of ours
            return False
        known = self._objects.get(place)
        if known is not None:
            if not newer(found.meta, known.meta):
                return False
            self._unindex(place, known)
        self._objects[place] = found
        for index, key in self._keys(found):
            index.setdefault(key, set()).add(place)
        return True

    def drop(self, namespace: str, name: str, uid: str) -> T | None:
        """Forget this object for good: a late word of it brings it not back. Returns what it was.

        Another one that has taken its name meanwhile stays.
        """
        self._gone[uid] = None
        if len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)
        place = (namespace, name)
        known = self._objects.get(place)
        if known is None or known.meta.uid != uid:
            return None
        del self._objects[place]
        self._unindex(place, known)
        return known

    def _at(self, places: Iterable[Place]) -> tuple[T, ...]:
        return tuple(self._objects[place] for place in sorted(places))

    def _keys(self, found: T) -> list[tuple[dict[Any, set[Place]], Any]]:
        keys: list[tuple[dict[Any, set[Place]], Any]] = []
        if self._owner_of is not None and (uid := self._owner_of(found)):
            keys.append((self._by_owner, uid))
        labels, namespace = found.meta.labels, found.meta.namespace
        keys.extend((self._by_label, (namespace, name, labels[name])) for name in self._labels if name in labels)
        return keys

    def _unindex(self, place: Place, known: T) -> None:
        for index, key in self._keys(known):
            places = index.get(key)
            if places is not None:
                places.discard(place)
                if not places:
                    del index[key]


def newer(one: Meta, other: Meta) -> bool:
    """Whether `one` is a later state: another object of that name, or a higher resourceVersion (comparable since 1.35)."""
    if one.uid != other.uid:
        return True
    try:
        return int(one.resource_version) > int(other.resource_version)
    except ValueError:
        return one.resource_version != other.resource_version
