"""Stores of our four kinds, fed by watch-events. A spec is parsed once per generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from pydantic import ValidationError

from homeostat.api.base import ApiModel
from homeostat.api.kinds import Kind, Resource
from homeostat.api.meta import Meta
from homeostat.api.names import LABEL_TRAINING
from homeostat.cluster.store import Store

S = TypeVar("S", bound=ApiModel)
T = TypeVar("T", bound=ApiModel)


class Resources(Generic[S, T]):
    """What was seen of one of our kinds. changed(old, new) is called for each difference; None is absence."""

    def __init__(
        self, kind: Kind[S, T], changed: Callable[[Resource[S, T] | None, Resource[S, T] | None], None]
    ) -> None:
        self.kind = kind
        self.store: Store[Resource[S, T]] = Store((LABEL_TRAINING,))
        self._changed = changed

    def observe(self, raw: dict[str, Any]) -> None:
        """Take a newer state of one resource. Total: what does not parse is kept with its reason."""
        meta = Meta.read(raw["metadata"])
        old = self.store.get(meta.namespace, meta.name)
        new = self._parse(meta, raw, old)
        if self.store.put(new):
            self._changed(old, new)

    def forget(self, namespace: str, name: str, uid: str) -> None:
        """It is gone."""
        old = self.store.drop(namespace, name, uid)
        if old is not None:
            self._changed(old, None)

    def _parse(self, meta: Meta, raw: dict[str, Any], old: Resource[S, T] | None) -> Resource[S, T]:
        invalid = ""
        spec: S
        if old is not None and old.meta.uid == meta.uid and old.meta.generation == meta.generation:
            spec, invalid = old.spec, old.invalid
        else:
            try:
                spec = self.kind.spec.model_validate(raw.get("spec") or {})
            except ValidationError as error:
                spec, invalid = cast("S", self.kind.spec.model_construct()), _words(error)
        try:
            status = self.kind.status.model_validate(raw.get("status") or {})
        except ValidationError:  # written by another version: begin anew rather than stand still
            status = self.kind.status()
        return Resource(self.kind.kind, meta, spec, status, invalid)


def _words(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"spec.{where}: {first['msg']}"
