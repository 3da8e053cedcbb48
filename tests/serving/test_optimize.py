"""`homeostat optimize` on real models, and a server that loads what it left."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from onnxruntime import RunOptions
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression

from homeostat.api.wire.optimization import OPTIMIZATION_FILE, OPTIMIZED_FILE, Kind, Optimization
from homeostat.api.wire.run import PERMANENT_EXIT
from homeostat.artifacts.oci import Client
from homeostat.artifacts.optimizers import optimize as make
from homeostat.server.inference.model import TableModel, load
from homeostat.server.life.bundle import read_bundle
from homeostat.server.life.fetch import fetch
from homeostat.server.optimizing.comparison import sample
from homeostat.server.optimizing.optimize import Wish, beside, optimize
from serving import models
from serving.nets import INPUTS, network
from serving.pod import Pod, eventually
from training.registry import Registry

MOST = 1 << 30


def wish(folder: Path, kind: Kind, tolerance: float = 0.05, *, required: bool = False, **more: Any) -> Wish:
    return Wish(folder, kind, tolerance, required, **more)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    return network(tmp_path / "model", 512)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    served = Registry(tmp_path_factory.mktemp("registry"))
    served.start()
    yield served
    served.stop()


def digest_of(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def command(folder: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    """Exit code and last words of the command, as in a pod."""
    words = folder.parent / "last-words"
    done = subprocess.run(
        [sys.executable, "-m", "homeostat", "optimize", "--model-dir", folder, *flags],
        env={"TERMINATION_LOG": str(words), "PATH": ""},
        capture_output=True,
        check=False,
    )
    return done.returncode, json.loads(words.read_text())


def test_wide_layers_in_8_bits_are_a_quarter_of_the_size_and_faster_and_say_how_much(wide: Path) -> None:
    code, said = command(wide, "--type", "Int8Dynamic", "--tolerance", "0.05")
    found = Optimization(**said)
    assert code == 0
    assert found.used, found
    assert found.speedup is not None
    assert found.speedup > 1.05
    assert found.difference is not None
    assert 0 < found.difference <= 0.05
    assert found.size < 0.35 * found.original_size
    assert found.rows == 256
    assert found == Optimization.model_validate_json((wide / OPTIMIZATION_FILE).read_bytes())
    assert (found.original, found.digest) == (digest_of(wide / "model.onnx"), digest_of(wide / OPTIMIZED_FILE))


def test_the_optimised_file_is_what_a_server_loads_while_the_version_keeps_the_originals_digest(wide: Path) -> None:
    row = {f"f{i}": [0.1 * i, -0.1, 0.5] for i in range(INPUTS)}
    with Pod(wide, name="m") as plain:
        before = plain.ready().infer(row).output("probabilities")
        assert plain.stats().optimization is None
    found = optimize(wish(wide, "Int8Dynamic", required=True))
    with Pod(wide, name="m", digest=found.original) as pod:
        after = pod.ready().infer(row).output("probabilities")
        assert pod.stats().optimization == found
    assert 0 < np.abs(np.array(before) - np.array(after)).max() <= 0.05


@pytest.mark.parametrize("gemm", [False, True])
@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_same_model_gives_the_same_bytes_and_nearly_the_same_answers(
    tmp_path: Path, kind: Kind, *, gemm: bool
) -> None:
    folder = network(tmp_path / "m", 256, gemm=gemm)
    for name in ("a.onnx", "b.onnx"):
        make(kind, folder / "model.onnx", folder / name)
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()
    bundle = read_bundle(folder, MOST)
    one, other = (load(folder / name, bundle.signature, 1) for name in ("model.onnx", "a.onnx"))
    rows = sample(one, bundle.baseline)
    scores = [model.run(rows, RunOptions())[1] for model in (one, other)]
    assert np.abs(scores[0] - scores[1]).max() < {"Graph": 1e-5, "Float16": 2e-3, "Int8Dynamic": 0.05}[kind]


def test_an_answer_in_8_bits_does_not_depend_on_its_batch(wide: Path) -> None:
    make("Int8Dynamic", wide / "model.onnx", wide / OPTIMIZED_FILE)
    bundle = read_bundle(wide, MOST)
    model = load(wide / OPTIMIZED_FILE, bundle.signature, 1)
    assert model.batched
    rows = sample(model, bundle.baseline, 64)
    together = model.run(rows, RunOptions())[1]
    alone = np.concatenate([model.run(rows.part(i, i + 1), RunOptions())[1] for i in range(64)])
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("kind", ["Int8Dynamic", "Float16"])
def test_a_linear_model_has_nothing_to_gain_and_is_served_as_it_is(tmp_path: Path, kind: Kind) -> None:
    folder = models.numbers_only(tmp_path / "m")
    found = optimize(wish(folder, kind))
    assert (found.used, found.reason) == (False, "NothingToOptimize")
    assert not (folder / OPTIMIZED_FILE).exists()
    assert read_bundle(folder, MOST).served == folder / "model.onnx"


def test_a_model_that_8_bits_break_is_refused_and_its_original_serves(tmp_path: Path) -> None:
    folder = network(tmp_path / "m", 256, outlier=1e4)
    code, said = command(folder, "--type", "Int8Dynamic", "--tolerance", "0.05")
    assert (code, said["used"], said["reason"]) == (0, False, "AboveTolerance")
    assert said["difference"] > 0.3
    assert "the tolerance is 0.05 (spec.optimization.tolerance)" in said["message"]
    assert not (folder / OPTIMIZED_FILE).exists()
    with Pod(folder, name="m") as pod:
        found = pod.ready().stats().optimization
    assert found is not None
    assert found.reason == "AboveTolerance"


def test_where_it_is_required_a_refusal_fails_the_pod_with_a_reason(tmp_path: Path) -> None:
    folder = network(tmp_path / "m", 256, outlier=1e4)
    code, said = command(folder, "--type", "Int8Dynamic", "--required")
    assert (code, said["reason"]) == (PERMANENT_EXIT, "OptimizationRefused")
    assert "AboveTolerance" in said["message"]


def test_a_list_of_maps_becomes_a_table_of_the_same_scores(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    rows = random.normal(size=(300, 4)).astype(np.float32)
    model = LogisticRegression().fit(rows, random.integers(0, 3, 300))
    folder = tmp_path / "m"
    folder.mkdir()
    graph = convert_sklearn(model, "t", [("x", FloatTensorType([None, 4]))], target_opset=models.OPSET)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    found = optimize(wish(folder, "Graph", 0.0))
    assert found.used, found
    assert (found.difference, found.labels) == (0.0, 0.0)
    assert "ZipMap" not in {node.op_type for node in onnx.load(str(folder / OPTIMIZED_FILE)).graph.node}


def test_rows_to_compare_are_like_those_that_training_saw(tmp_path: Path) -> None:
    folder = models.flights(tmp_path / "m")
    bundle = read_bundle(folder, MOST)
    model = load(bundle.model, bundle.signature, 1)
    assert isinstance(model, TableModel)
    one, again = (sample(model, bundle.baseline) for _ in range(2))
    assert (one.numbers, one.strings) == (again.numbers, again.strings)
    hours = one.matrix()[:, 1]
    assert 0 < np.isnan(hours).mean() < 0.15  # one row in 17 has none
    assert -4 < np.nanmin(hours) < -1 < 1 < np.nanmax(hours) < 4
    assert {text for (text,) in one.strings} == {*models.LEVELS, ""}


def test_a_file_that_was_changed_after_the_comparison_is_not_served(wide: Path) -> None:
    optimize(wish(wide, "Int8Dynamic", required=True))
    with (wide / OPTIMIZED_FILE).open("ab") as file:
        file.write(b"\0")
    with Pod(wide) as pod:
        eventually(lambda: pod.state() == "DigestMismatch", "the pod says why it does not serve")


def test_what_one_pod_made_another_finds_and_compares_with_its_own_tolerance(
    tmp_path: Path, registry: Registry
) -> None:
    first, second, third = (network(tmp_path / name, 512) for name in ("a", "b", "c"))
    uri = registry.uri("ml/net@sha256:" + "0" * 64)
    made = optimize(wish(first, "Int8Dynamic", uri=uri))
    assert made.used
    found = optimize(wish(second, "Int8Dynamic", uri=uri))
    assert found == made  # the measured speed too, to the last figure: it was not measured again
    assert (second / OPTIMIZED_FILE).read_bytes() == (first / OPTIMIZED_FILE).read_bytes()
    strict = optimize(wish(third, "Int8Dynamic", 0.0, uri=uri))
    assert (strict.used, strict.reason, strict.speedup) == (False, "AboveTolerance", made.speedup)
    assert not (third / OPTIMIZED_FILE).exists()


def test_a_result_that_is_not_of_this_model_is_not_taken(tmp_path: Path, registry: Registry) -> None:
    mine, theirs = network(tmp_path / "mine", 512), network(tmp_path / "theirs", 256)
    uri = registry.uri("ml/foreign@sha256:" + "0" * 64)
    made = optimize(wish(mine, "Int8Dynamic", uri=uri, required=True))
    make("Int8Dynamic", theirs / "model.onnx", theirs / OPTIMIZED_FILE)
    forged = made.model_copy(update={"digest": digest_of(theirs / OPTIMIZED_FILE), "difference": 0.0})
    record = tmp_path / OPTIMIZATION_FILE
    record.write_text(forged.model_dump_json())
    Client().push({OPTIMIZATION_FILE: record, OPTIMIZED_FILE: theirs / OPTIMIZED_FILE}, beside(uri, made), "t")
    found = optimize(wish(network(tmp_path / "again", 512), "Int8Dynamic", uri=uri, required=True))
    assert (found.used, found.reason) == (False, "AboveTolerance")  # it is what was pushed, but it answers otherwise


def test_a_registry_that_cannot_be_reached_costs_only_the_sharing(wide: Path) -> None:
    found = optimize(wish(wide, "Int8Dynamic", uri="oci://127.0.0.1:9/ml/net:v1", required=True))
    assert found.used


def test_a_bundle_cannot_bring_an_optimised_file_past_its_digest(tmp_path: Path, registry: Registry) -> None:
    folder = network(tmp_path / "m", 256)
    optimize(wish(folder, "Int8Dynamic", required=True))
    uri = registry.uri("ml/smuggled:v1")
    Client().push({file.name: file for file in folder.iterdir()}, uri, "t")
    fetched = tmp_path / "fetched"
    fetch(uri, digest_of(folder / "model.onnx"), fetched, ())
    assert {file.name for file in fetched.iterdir()} == {"model.onnx", "signature.json", "baseline.json"}


@pytest.mark.parametrize("kind", get_args(Kind))
def test_what_is_no_model_is_said_and_left_to_the_server(tmp_path: Path, kind: Kind) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model at all")
    found = optimize(wish(tmp_path, kind))
    assert (found.used, found.reason) == (False, "NotOnnx")


def test_what_takes_too_long_or_too_much_memory_costs_only_the_optimisation(
    wide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = optimize(wish(wide, "Int8Dynamic", seconds=0.05))
    assert (late.used, late.reason) == (False, "OptimizationTimeout")
    monkeypatch.setattr("homeostat.server.optimizing.optimize.BASE_BYTES", 0)
    monkeypatch.setattr("homeostat.server.optimizing.optimize.memory_for", lambda *_: 8 << 20)
    starved = optimize(wish(wide, "Int8Dynamic"))
    assert not starved.used
    assert starved.reason in {"OptimizationFailed", "OutOfMemory"}
    assert "8 MiB" in starved.message or "memory" in starved.message
    assert read_bundle(wide, MOST).served == wide / "model.onnx"
