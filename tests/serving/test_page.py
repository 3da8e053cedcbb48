"""The page at `/`: what it holds, what it may load, its figures, and where it is not."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from serving import elsewhere, models
from serving.pod import ROW, Answer, Pod, eventually, free_port

HOSTILE = ["<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "a\"b'c&d", "<!--<script>"]


@pytest.fixture(scope="module")
def shown(flights: Path) -> Iterator[Pod]:
    with Pod(flights, workers=2, more=("--page",)) as running:
        yield running.ready()


def form(pod: Pod) -> Any:
    """What the page was given, as its script reads it."""
    text = pod.get("/").content.decode()
    return json.loads(text.split('<script type="application/json" id="model">')[1].split("</script>")[0])


def policy(page: Answer) -> dict[str, str]:
    parts = [part.strip().partition(" ") for part in page.headers["content-security-policy"].split(";")]
    return {name: value for name, _, value in parts}


def live(pod: Pod, since: float = 0) -> Any:
    return pod.get(f"/live?since={since}").json


def test_clients_of_kserve_still_find_the_server_alive(shown: Pod) -> None:
    assert shown.get("/", headers={"accept": "*/*"}).json == {"status": "alive"}


def test_the_page_is_one_document_that_may_load_nothing(shown: Pod) -> None:
    page = shown.get("/")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    said = policy(page)
    assert said["default-src"] == said["base-uri"] == said["form-action"] == said["frame-ancestors"] == "'none'"
    assert said["connect-src"] == "'self'"
    assert said["require-trusted-types-for"] == "'script'"
    for kind in ("script", "style"):
        (inline,) = re.findall(rb"<%b>(.*?)</%b>" % (kind.encode(), kind.encode()), page.content, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline).digest()).decode()
        assert said[f"{kind}-src"] == f"'sha256-{digest}'"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    text = page.content.decode()
    assert not re.search(r"\son\w+=|\ssrc=|style=|javascript:|innerHTML|https?://(?!www\.w3\.org/2000/svg)", text)
    head = shown.send("HEAD", "/", None)
    assert (head.status, head.content) == (200, b"")
    assert shown.send("POST", "/", b"").status == 405


def test_every_field_of_the_page_has_a_name(shown: Pod) -> None:
    text = shown.get("/").content.decode()
    assert '<html lang="en">' in text
    assert "<title>" in text
    assert 'name="viewport"' in text
    assert "<main>" in text
    for section in re.findall(r"<section[^>]*>", text):
        (name,) = re.findall(r'aria-labelledby="([^"]+)"', section)
        assert f'id="{name}"' in text


def test_mixed_columns_have_a_field_each_with_values_as_in_training(shown: Pod) -> None:
    found = form(shown)
    assert (found["name"], found["version"], found["way"]) == ("flights", "v7", "columns")
    assert [(f["name"], f["kind"], f["seen"]) for f in found["fields"]] == [
        ("distance", "number", True),
        ("origin", "string", True),
        ("hour", "number", True),
    ]
    assert set(found["fields"][1]["values"]) == set(models.LEVELS)
    distances = found["fields"][0]["values"]
    assert abs(distances[0]) < 0.3  # the middle of a normal distribution comes first
    assert min(distances) < -1 < 1 < max(distances)
    assert found["result"] == {
        "label": "label",
        "scores": "probabilities",
        "labels": ["false", "true"],
        "label_type": "boolean",
        "feedback": True,
    }
    row = {f["name"]: [f["values"][0]] for f in found["fields"]}
    answer = shown.infer(row)
    assert answer.status == 200
    assert {o["name"] for o in answer.json["outputs"]} == {found["result"]["label"], found["result"]["scores"]}


@pytest.mark.parametrize(
    "made", [elsewhere.two_inputs, elsewhere.texts, elsewhere.image, elsewhere.many_types, elsewhere.fixed_batch]
)
def test_raw_tensors_come_with_an_example_that_the_model_takes(made: Any, tmp_path: Path) -> None:
    with Pod(made(tmp_path / "model"), more=("--page",)) as pod:
        found = form(pod.ready())
        assert found["way"] == "tensors"
        assert [t["name"] for t in found["tensors"]] == [i["name"] for i in found["metadata"]["inputs"]]
        inputs = [{key: one[key] for key in ("name", "shape", "datatype", "data")} for one in found["tensors"]]
        answer = pod.infer(inputs)
        assert answer.status == 200, answer.content


def test_one_float_matrix_without_a_signature_has_a_field_for_each_of_its_columns(tmp_path: Path) -> None:
    with Pod(models.numbers_only(tmp_path / "model", 4, plain=True), more=("--page",)) as pod:
        found = form(pod.ready())
        assert (found["way"], found["input"]) == ("matrix", "input")
        assert [f["name"] for f in found["fields"]] == ["input_0", "input_1", "input_2", "input_3"]
        assert not any(f["seen"] for f in found["fields"])
        data = [f["values"][0] for f in found["fields"]]
        answer = pod.infer([{"name": found["input"], "shape": [1, 4], "datatype": "FP32", "data": data}])
        assert {o["name"] for o in answer.json["outputs"]} == {found["result"]["label"], found["result"]["scores"]}


def test_an_example_that_is_too_large_is_left_to_the_browser(tmp_path: Path) -> None:
    with Pod(models.numbers_only(tmp_path / "model", 301), more=("--page",)) as pod:
        assert form(pod.ready())["as_text"] is True


def test_hostile_names_of_columns_stay_text(tmp_path: Path) -> None:
    folder = models.numbers_only(tmp_path / "model", len(HOSTILE))
    for name in ("signature.json", "baseline.json"):
        text = json.loads((folder / name).read_text())
        for i, one in enumerate(text.get("columns") or text["features"]):
            one["name"] = HOSTILE[i]
        (folder / name).write_text(json.dumps(text))
    with Pod(folder, more=("--page",)) as pod:
        page = pod.ready().get("/").content.decode()
        assert [f["name"] for f in form(pod)["fields"]] == HOSTILE
    assert len(re.findall(r"<script", page)) == 2  # the data and the script
    assert len(re.findall(r"</script", page)) == 2
    assert "<img" not in page
    assert "<!--" not in page


def test_the_figures_move_with_the_requests_whichever_worker_is_asked(shown: Pod) -> None:
    before = live(shown)["points"][-1]
    for _ in range(20):
        assert shown.infer(ROW).status == 200
    for _ in range(3):
        assert shown.infer({"hour": [1.0]}).status == 400
    now = eventually(
        lambda: (p := live(shown)["points"][-1])["rows"] == before["rows"] + 20 and p, "all rows are there"
    )
    assert now["ok"] == before["ok"] + 20
    assert now["refused"] == before["refused"] + 3
    assert now["failed"] == before["failed"]
    assert sum(now["latency"]) == sum(before["latency"]) + 20
    assert now["batch_rows"] == before["batch_rows"] + 20
    assert now["workers"] == 2
    for _ in range(10):  # new connections come to both workers; a point that is given again has its own time
        found = live(shown)
        point = found["points"][-1]
        assert point["at"] < now["at"] or point["rows"] == now["rows"]
        assert len(point["latency"]) == len(found["bounds"]) + 1


def test_the_figures_of_the_past_come_once(shown: Pod) -> None:
    points = eventually(lambda: len(p := live(shown)["points"]) > 3 and p, "three seconds are remembered")
    at = [point["at"] for point in points]
    assert at == sorted(at)
    assert all(0.5 < b - a < 3 for a, b in pairwise(at[:-1]))
    later = live(shown, at[-1])["points"]
    assert all(point["at"] > at[-1] for point in later[:-1])
    assert len(later) <= 2
    for wrong in ("/live?since=soon", "/live?since=nan", "/live?until=3"):
        answer = shown.get(wrong)
        assert answer.status == 400
        assert "`since`" in answer.json["error"]


def test_a_pod_has_no_page_unless_asked_to(pod: Pod) -> None:
    answer = pod.get("/live")
    assert answer.status == 404
    assert "the page is off here: start the server with --page" in answer.json["error"]
    assert pod.get("/", headers={"accept": "text/html"}).json == {"status": "alive"}  # what KServe's clients look for
    assert "the page" not in pod.get("/elsewhere").json["error"]


def test_a_model_by_itself_can_be_served_without_the_page(flights: Path) -> None:
    ports = [f"--{name}={free_port()}" for name in ("port", "grpc-port", "admin-port")]
    command = [sys.executable, "-m", "homeostat", "serve", str(flights), "--no-page", *ports]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = [line.split()[0] for line in iter(process.stdout.readline, "\n")]
    finally:
        process.terminate()
        process.wait(30)
    assert said == ["model", "gRPC", "metrics"]
