"""The examples of docs/serving.md do what they say."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.pod import Pod

DOCUMENT = Path(__file__).parents[2] / "docs" / "serving.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def examples() -> list[tuple[str, str]]:
    """Each command with the answer that is shown after it, or with none."""
    blocks = BLOCK.findall(DOCUMENT.read_text())
    found = []
    for place, (kind, text) in enumerate(blocks):
        if kind == "sh":
            after = blocks[place + 1] if place + 1 < len(blocks) else ("", "")
            found.append((text, after[1] if after[0] == "json" else ""))
    return found


@pytest.fixture(scope="module")
def pod(flights: Path) -> Iterator[Pod]:
    with Pod(flights, workers=1) as running:
        yield running.ready()


def alike(shown: Any, given: Any) -> bool:
    """The same shape and texts; numbers are of this moment, and `…` stands for anything."""
    if isinstance(shown, dict):
        return (
            isinstance(given, dict) and list(shown) == list(given) and all(alike(v, given[k]) for k, v in shown.items())
        )
    if isinstance(shown, list):
        return isinstance(given, list) and len(shown) == len(given) and all(map(alike, shown, given))
    if isinstance(shown, float):
        return isinstance(given, float)
    return "…" in str(shown) or shown == given


@pytest.mark.parametrize(("command", "shown"), examples())
def test_an_example_of_the_docs_works_as_it_stands(pod: Pod, command: str, shown: str) -> None:
    ports = command.replace("localhost:8080", f"127.0.0.1:{pod.port}").replace(
        "localhost:8082", f"127.0.0.1:{pod.admin}"
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", ports],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    if shown:
        assert alike(json.loads(shown), answer), answer
    else:
        assert "error" not in answer, answer
