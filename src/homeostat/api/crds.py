"""The CustomResourceDefinitions, generated from the kinds."""

import json
import sys
from pathlib import Path
from typing import Any, Final

from homeostat.api.base import Rule
from homeostat.api.kinds import KINDS, Column, Kind
from homeostat.api.names import GROUP, NAME_PATTERN, VERSION
from homeostat.api.schema import structural

# Kubernetes reads YAML 1.1, where these words are booleans, also as keys.
_BOOLEANS: Final = {"y", "yes", "n", "no", "on", "off", "true", "false"}


def crd(kind: Kind[Any, Any]) -> dict[str, Any]:
    """The CRD of one kind: one version, status subresource, printer columns, names, rules."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": ["homeostat"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": _schema(kind)},
                }
            ],
        },
    }


def _column(column: Column) -> dict[str, Any]:
    return {"name": column.name, "type": column.type, "jsonPath": column.path, "priority": int(column.wide)}


def _schema(kind: Kind[Any, Any]) -> dict[str, Any]:
    rules = (
        Rule(
            f"self.metadata.name.matches('{NAME_PATTERN}')",
            "metadata.name must start with a letter and hold only a-z, 0-9 and '-' (its children are named after it)",
        ),
        Rule(
            f"size(self.metadata.name) <= {kind.name_length}",
            f"metadata.name must have at most {kind.name_length} characters (its children are named after it)",
        ),
    )
    return {
        "type": "object",
        "description": (kind.spec.__doc__ or "").strip(),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Always `homeostat.dev/v1alpha1`."},
            "kind": {"type": "string", "description": f"Always `{kind.kind}`."},
            "metadata": {"type": "object"},
            "spec": structural(kind.spec),
            "status": structural(kind.status),
        },
        "x-kubernetes-validations": [{"rule": rule.rule, "message": rule.message} for rule in rules],
    }


def to_yaml(crd_manifest: dict[str, Any]) -> str:
    """YAML of a manifest in the order of its keys, without a YAML library: JSON strings are YAML."""
    return "\n".join(_lines(crd_manifest, 0)) + "\n"


def _lines(value: Any, indent: int) -> list[str]:
    pad = " " * indent
    lines: list[str] = []
    if isinstance(value, dict):
        for key, child in value.items():
            if isinstance(child, (dict, list)) and child:
                lines.append(f"{pad}{_key(key)}:")
                lines += _lines(child, indent + 2)
            else:
                lines.append(f"{pad}{_key(key)}: {json.dumps(child, ensure_ascii=False)}")
    else:
        for child in value:
            if isinstance(child, dict) and child:
                first, *rest = _lines(child, indent + 2)
                lines += [f"{pad}- {first.strip()}", *rest]
            else:
                lines.append(f"{pad}- {json.dumps(child, ensure_ascii=False)}")
    return lines


def _key(name: str) -> str:
    return json.dumps(name) if name.lower() in _BOOLEANS else name


def files() -> dict[str, str]:
    """File name to content of every generated CRD."""
    return {f"{GROUP}_{kind.plural}.yaml": to_yaml(crd(kind)) for kind in KINDS.values()}


def run(argv: list[str]) -> int:
    """`homeostat crds [--to DIR]...`: print the CRDs, or write them into folders. Returns the exit code."""
    folders = [Path(argv[i + 1]) for i, word in enumerate(argv[:-1]) if word == "--to"]
    if not folders:
        sys.stdout.write("---\n".join(files().values()))
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files().items():
            (folder / name).write_text(content, encoding="utf-8")
    return 0
