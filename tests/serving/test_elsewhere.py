"""A model file from elsewhere works without configuration: what it takes and gives is read from the file."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving import elsewhere
from serving.pod import Pod


def tensor(name: str, datatype: str, values: Any) -> dict[str, Any]:
    array = np.asarray(values)
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()}


def test_two_inputs_and_two_outputs_keep_the_names_of_the_file(tmp_path: Path) -> None:
    with Pod(elsewhere.two_inputs(tmp_path / "m"), name="m") as pod:
        pod.ready()
        metadata = pod.get("/v2/models/m").json
        assert metadata["inputs"] == [
            {"name": "a", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "b", "datatype": "INT64", "shape": [-1, 1]},
        ]
        answer = pod.infer([tensor("b", "INT64", [[1 << 40], [2]]), tensor("a", "FP32", [[1, 2, 3], [4, 5, 6]])])
        assert answer.output("twice") == [1 << 41, 4]
        assert answer.output("sum")[3:] == [6, 7, 8]
        only = pod.infer([tensor("b", "INT32", [[1]]), tensor("a", "FP32", [[1, 2, 3]])], outputs=[{"name": "twice"}])
        assert [o["name"] for o in only.json["outputs"]] == ["twice"]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([tensor("a", "FP32", [[1, 2, 3]])], "missing input 'b'"),
        ([tensor("a", "FP32", [[1, 2]]), tensor("b", "INT64", [[1]])], "input 'a': expected shape [-1, 3], got [1, 2]"),
        (
            [tensor("a", "FP32", [[1, 2, 3]]), tensor("b", "FP32", [[1.5]])],
            "value 0 of input 'b': expected a whole number",
        ),
        ([tensor("a", "FP32", [[1, 2, 3]] * 2), tensor("b", "INT64", [[1]])], "input 'b' has 1 rows, input 'a' has 2"),
        ([tensor("a", "BYTES", [["x", "y", "z"]]), tensor("b", "INT64", [[1]])], "expected datatype FP32"),
        ([tensor("c", "FP32", [[1]])], "unknown input 'c'; expected a (FP32 [-1, 3]), b (INT64 [-1, 1])"),
        ([tensor("b", "INT64", [[1 << 70]]), tensor("a", "FP32", [[1, 2, 3]])], "does not fit INT64"),
    ],
)
def test_what_is_wrong_with_a_tensor_is_named(two_inputs: Pod, inputs: Any, said: str) -> None:
    answer = two_inputs.infer(inputs)
    assert answer.status == 400
    assert said in answer.json["error"]


@pytest.fixture(scope="module")
def two_inputs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Pod(elsewhere.two_inputs(tmp_path_factory.mktemp("two") / "m"), name="m") as pod:
        yield pod.ready()


def test_images_are_taken_flat_and_nested(tmp_path: Path) -> None:
    pictures = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).round(3)
    with Pod(elsewhere.image(tmp_path / "m"), name="m") as pod:
        flat = pod.ready().infer([tensor("x", "FP32", pictures)])
        nested = pod.infer([{**tensor("x", "FP32", pictures), "data": pictures.tolist()}])
        assert flat.output("logits") == nested.output("logits")
        assert flat.json["outputs"][0]["shape"] == [2, 10]
        rows = pod.send(
            "POST", "/v1/models/m:predict", str({"instances": pictures.tolist()}).replace("'", '"').encode()
        )
        assert np.array_equal(np.ravel(rows.json["predictions"]), flat.output("logits"))


def test_axes_of_any_size_share_no_batch_with_other_sizes(tmp_path: Path) -> None:
    with Pod(elsewhere.sequence(tmp_path / "m"), name="m", max_latency=0.02) as pod:
        pod.ready()

        def ask(length: int) -> Any:
            return pod.infer([tensor("tokens", "INT64", [list(range(length))])])

        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(ask, list(range(1, 9)) * 4))
        for length, answer in zip(list(range(1, 9)) * 4, answers, strict=True):
            assert answer.output("total") == [sum(range(length))]
            assert answer.output("squares") == [i * i for i in range(length)]


def test_texts_go_through(tmp_path: Path) -> None:
    with Pod(elsewhere.texts(tmp_path / "m"), name="m") as pod:
        assert pod.ready().infer([tensor("text", "BYTES", [["a"], ["ü%"]])]).output("same") == ["a", "ü%"]


def test_a_fixed_batch_runs_as_it_is(tmp_path: Path) -> None:
    with Pod(elsewhere.fixed_batch(tmp_path / "m"), name="m") as pod:
        pod.ready()
        assert pod.get("/v2/models/m").json["parameters"] == {"batching": False}
        answer = pod.infer([tensor("x", "FP32", [[1, 2, 3], [4, 5, 6]])])
        assert (answer.output("y"), answer.json["outputs"][0]["shape"]) == ([-1, -2, -3, -4, -5, -6], [2, 3])
        assert "expected shape [2, 3], got [1, 3]" in pod.infer([tensor("x", "FP32", [[1, 2, 3]])]).json["error"]


def test_a_model_whose_answers_depend_on_the_batch_runs_unbatched_and_says_so(tmp_path: Path) -> None:
    with Pod(elsewhere.batch_mean(tmp_path / "m"), name="m", max_latency=0.02) as pod:
        pod.ready()
        assert pod.get("/v2/models/m").json["parameters"] == {"batching": False}

        def ask(value: float) -> Any:
            return pod.infer([tensor("x", "FP32", [[value, 0, -value]])]).output("y")

        with ThreadPoolExecutor(16) as threads:
            assert list(threads.map(ask, range(32))) == [[v, 0, -v] for v in range(32)]


def test_every_datatype_goes_in_and_out(tmp_path: Path) -> None:
    types = ["FP64", "FP16", "INT8", "INT16", "INT32", "UINT8", "UINT16", "UINT32", "UINT64", "BOOL"]
    with Pod(elsewhere.many_types(tmp_path / "m"), name="m") as pod:
        answer = pod.ready().infer([tensor(t, t, [[1, 0]]) for t in types])
        for t in types:
            assert answer.output(f"{t}_out") == ([True, False] if t == "BOOL" else [1, 0])
        wrong = pod.infer([tensor(t, t, [[300, 0]] if t == "INT8" else [[1, 0]]) for t in types])
        assert "300 does not fit INT8" in wrong.json["error"]


def test_maps_of_probabilities_become_a_table(tmp_path: Path) -> None:
    with Pod(elsewhere.zipmap(tmp_path / "m"), name="m") as pod:
        answer = pod.ready().infer([tensor("x", "FP32", [[1.0, 0, 0, 0], [0.0, 0, 0, 0]])])
        label, scores = answer.json["outputs"]
        assert (label["datatype"], label["data"]) == ("BYTES", ["high", "middle"])
        assert scores["shape"] == [2, 3]
        assert np.allclose(np.reshape(scores["data"], (2, 3)).sum(axis=1), 1)
        ids = answer.ids
        sent = {"labels": [{"id": ids[0], "label": "high"}, {"id": ids[1], "label": "low"}]}
        assert pod.feedback(sent).json["accepted"] == 2


@pytest.mark.parametrize("rows", [[[1, 2]], [[-1, 2]], [[1, 2], [-3, 4]], [[1, 2], [-3, 4], [5, 6], [-7, 8], [-9, 1]]])
def test_a_model_that_gives_other_rows_than_it_takes_is_answered_as_a_whole(tmp_path: Path, rows: Any) -> None:
    kept = [row for row in rows if row[0] > 0]
    with Pod(elsewhere.keeps(tmp_path / "m"), name="m") as pod:
        answer = pod.ready().infer([tensor("x", "FP32", np.float32(rows))])
        found = {one["name"]: one for one in answer.json["outputs"]}
        assert found["kept"]["shape"] == [len(kept), 2]
        assert found["kept"]["data"] == [value for row in kept for value in row]
        assert found["count"]["data"] == [len(kept)]
        other = pod.send(
            "POST", "/invocations", json.dumps({"instances": rows}).encode(), {"content-type": "application/json"}
        )
        assert other.status == 200, other.content


def test_rows_that_depend_on_each_other_are_neither_doubled_nor_split(tmp_path: Path) -> None:
    with Pod(elsewhere.batch_mean(tmp_path / "m"), name="m", max_batch_rows=4) as pod:
        pod.ready()
        assert pod.infer([tensor("x", "FP32", [[1.0, 2, 3]])]).output("y") == [-1, 0, 1]
        six = [[float(i)] * 3 for i in range(6)]
        assert pod.infer([tensor("x", "FP32", six)]).output("y") == [i - 2.5 for i in range(6) for _ in range(3)]
