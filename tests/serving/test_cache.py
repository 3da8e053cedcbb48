"""The prediction cache through the real server: the same answers, new ids, every row counted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.pod import Pod, eventually

ROWS = {"distance": [0.5, None, -1.25], "hour": [1.0, 2.0, None], "origin": ["JFK", "", "EWR"]}


@pytest.fixture(scope="module")
def cached(flights: Path) -> Iterator[Pod]:
    with Pod(flights, cache_rows=100, cache_seconds=60) as running:
        yield running.ready()


def counted(pod: Pod) -> tuple[int, int]:
    """Hits and misses, in rows."""
    text = pod.get("/metrics", port=pod.admin).content.decode()
    found = {line.partition("{")[0]: line.rsplit(" ", 1)[1] for line in text.splitlines() if "cache" in line}
    return int(found["homeostat_cache_hits_total"]), int(found["homeostat_cache_misses_total"])


def test_a_row_from_memory_has_the_same_answer_and_an_id_of_its_own(cached: Pod, pod: Pod) -> None:
    hits, misses = counted(cached)
    served = cached.stats().served
    rows = served["stable"].rows if served else 0
    first, second, without = cached.infer(ROWS), cached.infer(ROWS), pod.infer(ROWS)
    assert first.json["outputs"] == second.json["outputs"] == without.json["outputs"]
    assert not set(first.ids) & set(second.ids)
    eventually(lambda: counted(cached) == (hits + 3, misses + 3), "three misses, three hits")
    assert cached.stats().served["stable"].rows == rows + 6
    eventually(lambda: cached.stats().features.rows == rows + 6, "hits are in the features' cells too")
    assert (
        cached.feedback({"id": second.ids[0], "label": True}).json
        == pod.feedback({"id": without.ids[0], "label": True}).json
    )


def test_a_row_is_known_over_protocols(cached: Pod) -> None:
    cached.infer({"distance": [7.0], "hour": [7.0], "origin": ["LGA"]})
    hits, misses = counted(cached)
    body = b'{"dataframe_split": {"columns": ["origin", "hour", "distance"], "data": [["LGA", 7, 7]]}}'
    assert cached.send("POST", "/invocations", body, {"content-type": "application/json"}).status == 200
    eventually(lambda: counted(cached) == (hits + 1, misses), "a hit")


def test_a_pod_without_cache_counts_no_hits_and_no_misses(pod: Pod) -> None:
    pod.infer(ROWS)
    pod.infer(ROWS)
    assert counted(pod) == (0, 0)
