"""The generated CRDs: every field says what it is, every string, list and map has a bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from homeostat.api.crds import crd, files, to_yaml
from homeostat.api.kinds import KINDS

Schema = dict[str, Any]
EVERY = sorted(KINDS)


def whole(kind: str) -> Schema:
    schema: Schema = crd(KINDS[kind])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def fields(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Every field below a schema with its path."""
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from fields(child, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield f"{path}[]", schema[keyword]
            yield from fields(schema[keyword], f"{path}[]")


@pytest.mark.parametrize("kind", EVERY)
def test_every_field_of_a_spec_is_described(kind: str) -> None:
    silent = [
        path
        for path, schema in fields(whole(kind)["properties"]["spec"], "spec")
        if not path.endswith("[]") and not schema.get("description")
    ]
    assert silent == []


@pytest.mark.parametrize("kind", EVERY)
def test_everything_is_bounded(kind: str) -> None:
    bounds = {"string": ("maxLength", "enum", "format"), "array": ("maxItems",)}
    boundless = [
        path
        for part in ("spec", "status")
        for path, schema in fields(whole(kind)["properties"][part], part)
        if schema.get("type") in bounds and not any(word in schema for word in bounds[schema["type"]])
    ]
    maps = [
        path
        for part in ("spec", "status")
        for path, schema in fields(whole(kind)["properties"][part], part)
        if "additionalProperties" in schema and "maxProperties" not in schema
    ]
    assert boundless + maps == []


@pytest.mark.parametrize("kind", EVERY)
def test_every_rule_has_a_message(kind: str) -> None:
    rules = [rule for _, schema in fields(whole(kind), "") for rule in schema.get("x-kubernetes-validations", ())]
    assert all(rule["message"] for rule in [*rules, *whole(kind)["x-kubernetes-validations"]])


@pytest.mark.parametrize("kind", EVERY)
def test_the_file_says_what_was_generated_also_to_readers_of_yaml_1_1(kind: str) -> None:
    """A bare `on` would be read as the boolean true."""
    assert yaml.safe_load(files()[f"homeostat.dev_{KINDS[kind].plural}.yaml"]) == crd(KINDS[kind])


def test_booleans_in_disguise_are_quoted_as_keys() -> None:
    assert to_yaml({"on": {"no": 1}}) == '"on":\n  "no": 1\n'
