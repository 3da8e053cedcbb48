"""No body hurts: 10,000 over each protocol end in an answer or in a 4xx that says what was wrong, never in a 5xx or a crash."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from serving import fuzz
from serving.fuzz import Case, Grammar
from serving.pod import Pod
from serving.raw_client import ask, post

WAYS = ("v2", "binary", "v1", "frame", "csv", "feedback")
EACH = 5_000  # for each of two models
ALLOWED = {200, 400, 413, 415}


@pytest.fixture(scope="module", params=["flights", "tensors"])
def fuzzed(request: pytest.FixtureRequest, flights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    folder = flights if request.param == "flights" else fuzz.tensors(tmp_path_factory.mktemp("tensors") / "model")
    with Pod(folder, name=request.param) as pod:
        yield pod.ready()


def _grammar(pod: Pod, way: str) -> Grammar:
    metadata = pod.get(f"/v2/models/{pod.name}").json
    grammar = Grammar(Random(f"{pod.name} {way}"), metadata, tabular=pod.name == "flights")
    for _ in range(50):
        grammar.ids += pod.infer(grammar.tensors(4)).ids
    return grammar


def _complaint(case: Case, status: int, body: bytes) -> str:
    """What is wrong with an answer; empty when nothing is."""
    if status == 200:
        return "it was answered" if case.wrong else ""
    if status not in ALLOWED:
        return f"status {status}"
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return "no JSON object with `error`"
    if not isinstance(error, str) or not 10 <= len(error) <= 2000:
        return f"an error of {len(error)} characters"
    if case.names and not any(
        name in error for name in (*case.names, "is not JSON", "too many objects", "compressed body")
    ):
        return f"none of {case.names} is named"
    return ""


@pytest.mark.parametrize("way", WAYS)
def test_no_body_hurts_and_every_refusal_says_what_was_wrong(fuzzed: Pod, way: str) -> None:
    grammar, workers = _grammar(fuzzed, way), fuzzed.workers()
    asked: dict[bytes, Case] = {}
    found: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    examples: dict[str, str] = {}

    def requests() -> Iterator[bytes]:
        for case in islice(grammar.cases(way), EACH):
            request = post(case.path, case.body, case.headers)
            asked[request] = case
            yield request

    def answered(request: bytes, status: int, body: bytes) -> None:
        statuses[status] += 1
        case = asked.pop(request, None)  # None: the same twice at once
        if case is not None and (complaint := _complaint(case, status, body)):
            found[complaint] += 1
            examples.setdefault(complaint, f"{case.headers} {case.body[:600]!r} -> {status} {body[:400]!r}")

    ask(fuzzed.port, requests(), answered)
    assert not found, "\n".join(f"{count} × {what}: {examples[what]}" for what, count in found.most_common(12))
    assert sum(statuses.values()) == EACH
    assert min(statuses[200], EACH - statuses[200]) > EACH // 50 or (way, fuzzed.name) == ("csv", "tensors")
    assert fuzzed.workers() == workers


@pytest.mark.parametrize("text", [b"[", b'{"inputs":', b'{"labels":[', b'[{"a":', b'{"a":['])
def test_text_that_is_nested_100000_deep_is_refused(fuzzed: Pod, text: bytes) -> None:
    for path in (f"/v2/models/{fuzzed.name}/infer", f"/v1/models/{fuzzed.name}:predict", "/invocations", "/feedback"):
        answer = fuzzed.send("POST", path, text * 100_000)
        assert answer.status in {400, 413}
        assert answer.json["error"]
