"""The CRDs in crds/ and in the chart are those that the models generate."""

from __future__ import annotations

from pathlib import Path

from homeostat.api.crds import files

COPIES = ("crds", "charts/homeostat/files/crds")


def problems(root: Path) -> list[str]:
    """Copies that differ from what the models say, one line each."""
    found = []
    for folder in COPIES:
        wanted = files()
        there = {file.name: file.read_text() for file in (root / folder).glob("*.yaml")}
        stale = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
        found += [
            f"{folder}/{name} is not what the models generate: run: homeostat crds --to crds --to charts/homeostat/files/crds"
            for name in stale
        ]
    return found
