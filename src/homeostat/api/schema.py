"""From a pydantic model to the structural OpenAPI v3 schema that a CRD needs."""

from typing import Any, Final, get_args

from homeostat.api.base import ApiModel, Rule

JsonSchema = dict[str, Any]
# JSON Schema keywords that a structural schema keeps as they are.
_KEPT: Final = (
    "type", "description", "format", "pattern", "minLength", "maxLength", "minItems", "maxItems",
    "minimum", "maximum", "maxProperties", "enum", "required",
)  # fmt: skip
_STRING_BOUND: Final = 4096


def structural(model: type[ApiModel]) -> JsonSchema:
    """The schema of `model`: no references, no nulls, no defaults, every string bounded, its CEL rules attached.

    Raises ValueError on a construct that a structural schema cannot express.
    """
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(raw, raw.get("$defs", {}), _models(model))


def _models(model: type[ApiModel]) -> dict[str, type[ApiModel]]:
    """`model` and every ApiModel reachable from it, by class name."""
    found: dict[str, type[ApiModel]] = {}
    todo: list[Any] = [model]
    while todo:
        item = todo.pop()
        if isinstance(item, type) and issubclass(item, ApiModel):
            if item.__name__ not in found:
                found[item.__name__] = item
                todo += [field.annotation for field in item.model_fields.values()]
        else:
            todo += get_args(item)
    return found


def _convert(node: JsonSchema, defs: JsonSchema, models: dict[str, type[ApiModel]]) -> JsonSchema:
    node = _resolve(node, defs)
    out: JsonSchema = {key: node[key] for key in _KEPT if key in node}
    out |= {key: value for key, value in node.items() if key.startswith("x-kubernetes-")}
    if "const" in node:
        out |= {"type": "string", "enum": [node["const"]]}
    for keyword, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if keyword in node:
            out |= {bound: node[keyword], keyword: True}
    if "properties" in node:
        out["properties"] = {name: _convert(child, defs, models) for name, child in node["properties"].items()}
    elif node.get("type") == "object":
        _convert_map(out, node, defs, models)
    if "items" in node:
        out["items"] = _convert(node["items"], defs, models)
    if out.get("type") == "string" and "enum" not in out and out.get("format") != "date-time":
        out.setdefault("maxLength", _STRING_BOUND)
    if "type" not in out and not out.get("x-kubernetes-preserve-unknown-fields"):
        raise ValueError(f"no structural type for {node!r}")
    _attach_rules(out, node, models)
    return out


def _convert_map(out: JsonSchema, node: JsonSchema, defs: JsonSchema, models: dict[str, type[ApiModel]]) -> None:
    values = node.get("additionalProperties")
    if node.get("x-kubernetes-preserve-unknown-fields"):
        return
    if isinstance(values, dict) and values:
        out["additionalProperties"] = _convert(values, defs, models)
    else:
        out["additionalProperties"] = {"x-kubernetes-preserve-unknown-fields": True}


def _resolve(node: JsonSchema, defs: JsonSchema) -> JsonSchema:
    """`node` with its reference followed and a `null` alternative dropped; its own description wins."""
    own = {key: value for key, value in node.items() if key not in {"$ref", "anyOf", "allOf"}}
    if "$ref" in node:
        target = defs[node["$ref"].rsplit("/", 1)[1]]
        return _resolve(target, defs) | own
    for keyword in ("anyOf", "allOf"):
        if keyword in node:
            rest = [option for option in node[keyword] if option.get("type") != "null"]
            if len(rest) != 1:
                raise ValueError(f"a union has no structural schema: {node!r}")
            return _resolve(rest[0], defs) | own
    return node


def _attach_rules(out: JsonSchema, node: JsonSchema, models: dict[str, type[ApiModel]]) -> None:
    model = models.get(node.get("title", "")) if "properties" in node else None
    if model is not None and model.cel:
        out["x-kubernetes-validations"] = [_rule(rule) for rule in model.cel]


def _rule(rule: Rule) -> JsonSchema:
    text = {"rule": rule.rule, "message": rule.message}
    return text | ({"fieldPath": rule.field} if rule.field else {})
