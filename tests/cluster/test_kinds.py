"""The four kinds at the real API server: what it refuses, with field and fix, and what it accepts."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.ground import ROOT
from cluster.loop import ACCESS, KUBECTL, a_namespace, kubectl
from cluster.samples import ACCEPTED, REFUSED, VERSION, Refused, manifest

pytestmark = pytest.mark.cluster
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").rglob("*.yaml"))]
DRY_RUN = ("create", "--dry-run=server", "--validate=strict", "-f", "-")


def said(*words: str, given: Any = None, text: str | None = None) -> tuple[int, str]:
    """kubectl's exit code and all that it said. given: a manifest; text: YAML as it is."""
    text = text if given is None else json.dumps(given)
    done = subprocess.run([KUBECTL, *ACCESS, *words], input=text, text=True, capture_output=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_there_are_enough_samples() -> None:
    assert len(REFUSED) >= 20
    assert len(ACCEPTED) >= 10


@pytest.mark.parametrize("sample", REFUSED, ids=lambda s: f"{s.kind}: {s.title}")
def test_an_invalid_resource_is_refused_with_the_field_and_the_fix(sample: Refused) -> None:
    code, answer = said(*DRY_RUN, given=manifest(sample.kind, sample.spec, sample.name))
    assert code != 0, answer
    assert sample.field in answer
    assert sample.fix in answer


@pytest.mark.parametrize(("title", "kind", "spec"), ACCEPTED, ids=lambda s: s if isinstance(s, str) else "")
def test_a_valid_resource_is_accepted(title: str, kind: str, spec: dict[str, Any]) -> None:
    code, answer = said(*DRY_RUN, given=manifest(kind, spec))
    assert code == 0, f"{title}: {answer}"


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_resources_of_every_text_are_valid(text: Path) -> None:
    content = text.read_text()
    blocks = (
        [content] if text.suffix == ".yaml" else re.findall(r"^```yaml\n(.*?)^```", content, re.MULTILINE | re.DOTALL)
    )
    for block in blocks:
        code, answer = said(*DRY_RUN, text=block)
        assert code == 0, answer


def test_the_readme_shows_the_three_smallest_files() -> None:
    assert len(re.findall(r"^kind: ", (ROOT / "README.md").read_text(), re.MULTILINE)) == 3


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    with a_namespace() as name:
        yield name


def test_a_version_never_changes(namespace: str) -> None:
    version = manifest("ModelVersion", VERSION)
    version["metadata"]["namespace"] = namespace
    kubectl("create", "-f", "-", given=version)
    code, answer = said("-n", namespace, "patch", "mv", "sample", "--type=merge", "-p", '{"spec": {"number": 2}}')
    assert code != 0
    assert "create a new one" in answer
    kubectl("-n", namespace, "label", "mv", "sample", "team=delay")


@pytest.mark.parametrize("kind", ["mt", "mv", "md", "dm"])
def test_short_names_and_the_category_work(namespace: str, kind: str) -> None:
    kubectl("-n", namespace, "get", kind)
    kubectl("-n", namespace, "get", "homeostat")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("modeltraining.spec.trainer.sklearn.estimator", "Example: `HistGradientBoostingClassifier`"),
        ("modeldeployment.spec.strategy.canary.steps.weight", "in percent"),
        ("driftmonitor.spec.window", "Default: `1h`"),
        ("modelversion.spec.artifact.digest", "identity of the model"),
    ],
)
def test_explain_is_documentation(field: str, words: str) -> None:
    assert words in " ".join(kubectl("explain", field).split())
