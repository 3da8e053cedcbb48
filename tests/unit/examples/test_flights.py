"""The demo's pure parts: the year's clock, what the cluster's objects say, the story's moves, the requests, the claims."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from examples.flights import story  # noqa: E402
from examples.flights.cluster import writes  # noqa: E402
from examples.flights.replay import Seen, bodies  # noqa: E402
from examples.flights.state import Ended, Run, State, Version, moments, read  # noqa: E402
from examples.flights.story import Move, Told, next_move  # noqa: E402
from examples.flights.summary import Facts, checks, time_to_rollback  # noqa: E402
from examples.flights.year import Place, Year  # noqa: E402

from homeostat.api.kinds import KINDS  # noqa: E402

FILES = ROOT / "examples/flights"
GOOD, BAD = "HistGradientBoostingClassifier", story.BAD_ESTIMATOR
T0 = datetime(2026, 1, 1, tzinfo=UTC)


def version(number: int, trigger: str = "Drift", estimator: str = GOOD, after: float = 0) -> Version:
    asked = T0 + timedelta(seconds=after)
    name, digest = f"flights-{number}", f"sha256:{number:064d}"
    return Version(name, number, trigger, "because", asked, estimator, 0.75, "", "", "", digest, asked)


def ended(number: int, result: str = "Promoted") -> Ended:
    return Ended(f"flights-{number}", f"sha256:{number:064d}", T0, result, "told")


# ---- the three files


@pytest.mark.parametrize("name", ["training", "deployment", "monitor"])
def test_each_file_is_short_and_every_field_is_one_of_the_kind(name: str) -> None:
    text = (FILES / f"{name}.yaml").read_text()
    manifest = yaml.safe_load(text)  # YAML 1.1, as kubectl reads it: a bare `on` would be a boolean
    kind = KINDS[manifest["kind"]]
    known = kind.spec.model_validate(manifest["spec"])
    assert len(text.splitlines()) <= 15
    _require_same_fields(manifest["spec"], known.to_json())


def _require_same_fields(given: Any, known: Any) -> None:
    if isinstance(given, dict):
        assert set(given) <= set(known)
        for field, value in given.items():
            _require_same_fields(value, known[field])
    elif isinstance(given, list):
        for one, other in zip(given, known, strict=True):
            _require_same_fields(one, other)


def test_the_harmful_change_is_two_lines_and_still_a_valid_training() -> None:
    before = (FILES / "training.yaml").read_text()
    after = story.harmed(before)
    spec = KINDS["ModelTraining"].spec.model_validate(yaml.safe_load(after)["spec"])
    assert spec.trainer.sklearn.estimator == BAD
    assert spec.gates[0].max_regression is None
    assert len(story.changed_lines(before, after)) == 4


def test_a_file_without_what_is_changed_is_refused() -> None:
    with pytest.raises(ValueError, match="estimator"):
        story.harmed("spec: {}")


# ---- the year


def test_a_month_is_an_even_sample_in_time_order() -> None:
    year = Year({3: 100, 4: 50}, rows_per_month=10)
    places = year.take(20)
    assert [p.month for p in places] == [3] * 10 + [4] * 10
    assert [p.row for p in places] == [*range(0, 100, 10), *range(0, 50, 5)]
    assert year.over


def test_a_month_is_known_when_its_last_row_was_sent() -> None:
    year = Year({3: 100, 4: 50}, rows_per_month=10)
    year.take(9)
    assert (year.known, year.month, year.over) == (2, 3, False)
    year.take(1)
    assert (year.known, year.month, year.over) == (3, 4, False)


def test_a_slow_month_sends_three_times_the_rows() -> None:
    year = Year({3: 90, 4: 90}, rows_per_month=10)
    year.slow = True
    assert [p.month for p in year.take(31)] == [3] * 30 + [4]


def test_after_the_last_month_its_left_out_rows_follow() -> None:
    year = Year({3: 100}, rows_per_month=10)
    assert not {p.row for p in year.take(10)} & {p.row for p in year.take(10)}
    assert all(0 <= p.row < 100 for p in year.take(5000))
    assert year.progress == 1.0


# ---- what the cluster says


def objects() -> list[dict[str, Any]]:
    track = {"versionName": "flights-1", "child": "v1"}
    status = {
        "stable": track,
        "candidate": {"versionName": "flights-2", "weight": 25},
        "rollout": {"phase": "Holding"},
        "history": [{"versionName": "flights-1", "ended": "2026-01-01T00:00:00Z", "result": "Promoted"}],
        "quarantined": [{"digest": "sha256:x", "time": "2026-01-01T00:00:00Z"}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "Serving"}],
    }
    trigger = {"type": "Drift", "reason": "temp", "time": "2026-01-01T00:00:00.5Z"}
    spec = {"number": 2, "artifact": {"uri": "oci://r/f", "digest": "sha256:y"}, "lineage": {"trigger": trigger}}
    made = {"name": "flights-2", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return [
        {"kind": "ModelTraining", "metadata": {"name": "flights"}, "status": {"currentRun": {"number": 3}}},
        {"kind": "ModelVersion", "metadata": made, "spec": spec},
        {"kind": "ModelDeployment", "metadata": {"name": "flights"}, "status": status},
        {"kind": "DriftMonitor", "metadata": {"name": "flights"}},
    ]


def test_the_objects_say_who_serves_and_who_is_tried() -> None:
    state = read(objects())
    assert (state.serving, state.stable, state.candidate, state.weight) == (True, "flights-1", "flights-2", 25)
    assert state.run == Run(3, "", "", "Running", "")
    assert state.role(state.versions[0]) == "candidate 25 %"
    assert state.banned("sha256:x") is not None
    assert not state.idle


def test_objects_without_status_say_nothing() -> None:
    bare = [{"kind": o["kind"], "metadata": o["metadata"]} for o in objects() if "spec" not in o]
    assert read(bare) == State()
    assert read([]) == State()


def test_a_version_that_waits_for_its_rollout_is_not_idle() -> None:
    state = State(versions=(version(1), version(2)), stable="flights-1", ended=(ended(1),))
    assert not state.idle
    assert State(versions=state.versions, stable="flights-1", ended=(ended(1), ended(2, "RolledBack"))).idle


def test_what_happened_is_told_once() -> None:
    before, after = State(), read(objects())
    told = moments(before, after)
    assert any("flights-2 gets 25 %" in text for text in told)
    assert any("flights-1 is stable" in text for text in told)
    assert moments(after, after) == []


# ---- the story

TWICE = State(
    versions=(version(1, "Spec"), version(2), version(3)),
    stable="flights-3",
    ended=(ended(1), ended(2), ended(3)),
)
HARMED = Told(harmed=T0, before=3)


def test_the_harm_waits_for_a_retraining_and_for_may() -> None:
    assert next_move(TWICE, Told(), 4, over=False) is Move.NOTHING
    assert next_move(TWICE, Told(), 5, over=False) is Move.HARM
    never = State(versions=TWICE.versions[:1], stable="flights-1", ended=(ended(1),))
    assert next_move(never, Told(), 8, over=False) is Move.NOTHING
    assert next_move(never, Told(), 9, over=False) is Move.HARM


def test_the_harm_waits_until_nothing_is_under_way() -> None:
    busy = State(versions=TWICE.versions, stable="flights-3", ended=TWICE.ended, candidate="flights-4")
    assert next_move(busy, Told(), 7, over=False) is Move.NOTHING


def test_the_change_is_taken_back_when_its_version_has_ended() -> None:
    bad = version(4, "Spec", BAD)
    tried = State(versions=(*TWICE.versions, bad), stable="flights-3", ended=TWICE.ended, candidate="flights-4")
    assert next_move(tried, HARMED, 8, over=False) is Move.NOTHING
    gone = State(versions=tried.versions, stable="flights-3", ended=(*TWICE.ended, ended(4, "RolledBack")))
    assert next_move(gone, HARMED, 8, over=False) is Move.REVERT


def test_the_end_needs_the_whole_year_and_a_good_version_after_the_revert() -> None:
    told = Told(harmed=T0, reverted=T0 + timedelta(seconds=50), before=3)
    versions = (*TWICE.versions, version(4, "Spec", BAD, after=1), version(5, "Spec", after=50))
    history = (*TWICE.ended, ended(4, "RolledBack"), ended(5))
    done = State(versions=versions, stable="flights-5", ended=history)
    assert next_move(done, told, 12, over=False) is Move.NOTHING
    assert next_move(done, told, 12, over=True) is Move.END
    before = State(versions=versions[:4], stable="flights-3", ended=history[:4])
    assert next_move(before, told, 12, over=True) is Move.NOTHING


# ---- requests, numbers, claims


def test_a_request_names_its_columns_and_says_missing_as_null() -> None:
    months = {3: pd.DataFrame({"hour": [5, 6], "temp": [30.5, float("nan")], "carrier": ["UA", "AA"], "late": [0, 1]})}
    columns = {"carrier": "BYTES", "hour": "FP32", "temp": "FP32"}
    ((place, body, late),) = bodies(months, columns, [Place(3, 1)])
    inputs = {i["name"]: i for i in orjson.loads(body)["inputs"]}
    assert (place, late) == (Place(3, 1), 1)
    assert inputs["carrier"] == {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["AA"]}
    assert (inputs["hour"]["data"], inputs["temp"]["data"]) == ([6], [None])
    assert bodies(months, columns, []) == []


def test_writes_are_summed_by_verb() -> None:
    text = 'homeostat_api_writes_total{kind="Job",verb="apply"} 2.0\nhomeostat_api_writes_total{kind="Pod",verb="apply"} 3.0\n'
    assert writes(text + "other 1\n") == {"apply": 5.0}


def facts(**changes: Any) -> Facts:
    told = Told(harmed=T0, reverted=T0 + timedelta(seconds=50), before=3)
    versions = (*TWICE.versions, version(4, "Spec", BAD, after=1), version(5, "Spec", after=50))
    banned = ((versions[3].digest, T0 + timedelta(seconds=30)),)
    history = (*TWICE.ended, ended(4, "RolledBack"), ended(5))
    seen = Seen(
        requests=10, labels=8, first={"v4": T0 + timedelta(seconds=18)}, last={"v4": T0 + timedelta(seconds=31)}
    )
    rows = pd.DataFrame(
        [(m, f"v{v}", late, 0.9 * late, 0.5, 0.01) for m in range(5, 10) for v in (2, 4) for late in (0, 1)],
        columns=["month", "version", "late", "score", "frozen", "seconds"],
    )
    first = pd.DataFrame([(3, "v1", 0, 0.25, 0.25, 0.01)], columns=rows.columns)
    given = {
        "state": State(versions=versions, stable="flights-5", ended=history, quarantined=banned), "told": told, "seen": seen,
        "rows": pd.concat([first, rows]), "writes": {}, "seconds": 300.0, "estimator": GOOD,
    }  # fmt: skip
    return Facts(**(given | changes))


def test_all_claims_hold_when_all_of_it_happened() -> None:
    assert [c.claim for c in checks(facts()) if not c.holds] == []
    assert time_to_rollback(facts()) == "12 s; it answered 10 rows, the last one 13 s after its first"


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"seen": Seen(requests=10, failed=1)}, "no request failed"),
        ({"seen": Seen(requests=10, refused={"foreign": 1})}, "every label was counted"),
        ({"estimator": "Other"}, "original spec"),
        ({"state": TWICE}, "rolled the bad version back"),
        ({"state": State()}, "drift was found"),
        ({"rows": facts().rows.assign(frozen=facts().rows["score"])}, "beats the frozen model"),
        ({"rows": facts().rows.assign(score=0.3)}, "gives the scores"),
    ],
)
def test_each_claim_can_fail(change: dict[str, Any], claim: str) -> None:
    assert any(claim in c.claim for c in checks(facts(**change)) if not c.holds)
