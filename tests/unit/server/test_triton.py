"""What Triton's clients ask for beyond the protocol, in Triton's words."""

from typing import Any

import pytest

from homeostat.server.protocols import triton
from homeostat.server.settings import Settings

SETTINGS = Settings(model_dir="m", name="flights", version="v7", admin_port=9002)


def metadata(inputs: list[int], outputs: list[int]) -> dict[str, Any]:
    return {
        "name": "flights",
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "BYTES", "shape": inputs}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": outputs}],
    }


def test_rows_are_the_batch_and_no_dimension() -> None:
    found = triton.config(metadata([-1, 3], [-1]), 64)
    assert found["max_batch_size"] == 64
    assert found["input"] == [{"name": "x", "data_type": "TYPE_STRING", "dims": [3]}]
    assert found["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": []}]


def test_a_model_whose_first_axis_is_not_rows_has_no_batch() -> None:
    found = triton.config(metadata([2, 3], [-1, 3]), 64)
    assert found["max_batch_size"] == 0
    assert (found["input"][0]["dims"], found["output"][0]["dims"]) == ([2, 3], [-1, 3])


def test_the_index_says_when_the_model_leaves() -> None:
    assert triton.index(SETTINGS, ready=True)["state"] == "READY"
    assert triton.index(SETTINGS, ready=False)["reason"] == "this pod is about to end"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v2/models/stats", "admin port (9002)"),
        ("/v2/models/flights/versions/v7/stats", "/metrics or /stats"),
        ("/v2/repository/models/flights/load", "here 'flights'"),
        ("/v2/models/flights/trace/setting", "traceparent"),
        ("/v2/logging", "log settings"),
        ("/v2/cudasharedmemory/region/a/status", "send the tensors"),
    ],
)
def test_what_there_is_not_says_what_to_do(path: str, says: str) -> None:
    assert says in (triton.absent_path(path, SETTINGS) or "")


def test_other_paths_have_no_special_word() -> None:
    assert triton.absent_path("/v2/models/flights/elsewhere", SETTINGS) is None
    assert all(triton.absent_methods(SETTINGS).values())
