"""Payloads between worker and sink: what is drawn, framed, handed over, and how it is written."""

import asyncio
import socket
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.api.wire.bundle import Signature
from homeostat.errors import ArtifactError
from homeostat.server.cli import chosen
from homeostat.server.counting.counters import Layout, map_slots, shared_memory
from homeostat.server.counting.recorder import Recorder
from homeostat.server.inference.answers import Answers, Outcome, minter
from homeostat.server.inference.graph import graph_of
from homeostat.server.inference.model import Model, TensorModel, load
from homeostat.server.inference.rows import Table
from homeostat.server.inference.tensors import Tensors
from homeostat.server.life.bundle import Bundle
from homeostat.server.payloads import schema as schemas
from homeostat.server.payloads.channel import PART_BYTES, Inlet, Outlet, pair
from homeostat.server.payloads.events import Events
from homeostat.server.payloads.frames import Records, count_of, frame, records, split
from homeostat.server.payloads.options import Options, check_columns, options
from homeostat.server.payloads.parquet import Parquet, file_name
from homeostat.server.payloads.sampling import Payloads
from homeostat.server.payloads.schema import Field, Schema
from homeostat.server.settings import Settings
from serving import models
from unit.server.test_cache import table

PLAIN = Options("http", "http://sink/", 100, 1.0, frozenset(), frozenset(), b"")


def answers_of(model: Model, *, named: bool) -> Answers:
    layout = Layout.of(Bundle(Path("m"), None, None, "").shape)
    recorder = Recorder(map_slots(shared_memory(layout, 1), layout, 1)[0], None, None)
    return Answers("m", "v1", minter("uid", "v1"), model, recorder, named=named)


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Answers]:
    folder = models.flights(tmp_path_factory.mktemp("payloads") / "flights")
    model = load(folder / "model.onnx", Signature.model_validate_json((folder / "signature.json").read_text()), 1)
    return model, answers_of(model, named=True)


def outcome_of(model: Model, answers: Answers, rows: Any) -> Outcome:
    return answers.outcome(model.run(rows, ort.RunOptions()), rows.count)


def decoded(schema: Schema, *frames: bytes) -> list[Records]:
    return list(records(schema, split(b"".join(frames))))


def test_a_frame_gives_back_the_rows_that_were_taken(flights: tuple[Model, Answers]) -> None:
    model, answers = flights
    rows = table(10)
    outcome, schema = outcome_of(model, answers, rows), Schema.of(model, answers)
    one = frame(schema, rows, outcome, [(1, 2), (7, 3)], tracks=[[0, 2], [1, 3]], time=12.5)
    (found,) = decoded(schema, one)
    places = [1, 2, 7, 8, 9]
    assert found.ids == [outcome.ids[i].decode() for i in places]
    assert (found.tracks, found.times) == ([0, 0, 1, 1, 1], [12.5] * 5)
    distance, origin, hour = found.inputs
    assert np.array_equal(np.stack([distance, hour], 1), rows.matrix()[places], equal_nan=True)
    assert origin.tolist() == [rows.strings[i][0] for i in places]
    label, probabilities = found.outputs
    assert label.tolist() == [orjson.loads(outcome.labels[i][0]) for i in places]
    assert np.array_equal(probabilities, outcome.values[1][places])
    assert count_of(next(split(one))) == 5


def test_frames_of_the_same_shapes_come_together_and_others_apart() -> None:
    schema = Schema("m", "v", False, True, (Field("x", "FP32", 1),), (Field("y", "BYTES", 0),))

    def framed(width: int, count: int) -> bytes:
        rows = Tensors(count, (np.full((count, width), width, np.float32),))
        texts = np.array([f"ü{i}" for i in range(count)], dtype=object)
        outcome = SimpleNamespace(ids=[b"i%d" % i for i in range(count)], labels=[], values=[texts])
        return frame(schema, rows, outcome, [(0, count)], tracks=[[0, count]], time=1.0)  # type: ignore[arg-type]

    found = decoded(schema, framed(3, 2), framed(3, 1), framed(4, 2))
    assert [one.inputs[0].shape for one in found] == [(3, 3), (2, 4)]
    assert found[0].outputs[0].tolist() == ["ü0", "ü1", "ü0"]


def test_outputs_that_are_not_one_per_row_are_refused(flights: tuple[Model, Answers]) -> None:
    model, answers = flights
    rows = table(4)
    outcome = outcome_of(model, answers, rows)
    outcome.values[1] = outcome.values[1][:3]
    with pytest.raises(ValueError, match="3 values for 4 rows"):
        frame(Schema.of(model, answers), rows, outcome, [(0, 4)], tracks=[[0, 4]], time=1.0)


def test_the_schema_survives_shared_memory(flights: tuple[Model, Answers], tmp_path: Path) -> None:
    schema = Schema.of(*flights)
    with (tmp_path / "memory").open("w+b") as memory:
        assert schemas.read(memory.fileno()) is None
        schemas.write(memory.fileno(), schema)
        assert schemas.read(memory.fileno()) == schema


def test_a_request_that_has_no_rows_of_its_own_is_one_record(tmp_path: Path) -> None:
    from unit.server.test_cache import _sums

    session = ort.InferenceSession(str(_sums(tmp_path, [2, 3])))
    graph = graph_of(session)
    model = TensorModel(session, graph, load(tmp_path / "model.onnx", None, 1).signature)
    schema, rows = Schema.of(model, answers_of(model, named=False)), Tensors(1, (np.ones((2, 3), np.float32),))
    outcome = outcome_of(model, answers_of(model, named=False), rows)
    found = decoded(schema, frame(schema, rows, outcome, [(0, 1)], tracks=[[0, 1]], time=1.0))
    whole = pq.read_table(pa.BufferReader(Parquet(schema, PLAIN, "pod").encode(found)[0].content))
    assert whole["input_x"].to_pylist() == [[[1.0] * 3] * 2]
    assert whole["output_sum"].to_pylist() == [[3.0, 3.0]]


@given(st.lists(st.sampled_from([1, 2, 5]), min_size=1, max_size=8), st.sampled_from([0.1, 0.5, 1.0]))
def test_a_sample_has_all_rows_of_a_request_or_none(sizes: list[int], share: float) -> None:
    taken = Payloads(None, share, None, None)  # type: ignore[arg-type]
    batch = [SimpleNamespace(rows=SimpleNamespace(count=n), track=i % 2) for i, n in enumerate(sizes)]
    slices, tracks = taken._drawn(batch)  # type: ignore[arg-type]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    covered = [row for at, n in slices for row in range(at, at + n)]
    drawn = [i for i, at in enumerate(starts) if at in covered]
    assert covered == [row for i in drawn for row in range(starts[i], starts[i] + sizes[i])]
    assert [t for t, n in tracks for _ in range(n)] == [i % 2 for i in drawn for _ in range(sizes[i])]
    assert share < 1 or len(drawn) == len(sizes)


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_the_share_is_kept_over_many_batches(share: float) -> None:
    taken, requests, drawn = Payloads(None, share, None, None), 0, 0  # type: ignore[arg-type]
    batch = [SimpleNamespace(rows=SimpleNamespace(count=1), track=0)] * 7
    while requests < 100_000:
        requests += len(batch)
        if taken._gap >= len(batch):
            taken._gap -= len(batch)
        else:
            drawn += sum(n for _, n in taken._drawn(batch)[0])  # type: ignore[arg-type]
    assert abs(drawn - share * requests) < 5 * (share * (1 - share) * requests) ** 0.5


class Ends:
    """Both ends of the channel on a loop."""

    def __init__(self, most: int) -> None:
        self.ours, theirs = pair()
        self.lost: list[int] = []
        self.outlet = Outlet(asyncio.get_running_loop(), self.ours, 3, most, self.lost.append)
        self.theirs = theirs
        self.inlet = Inlet(theirs)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.ours)
        self.ours.close()
        self.theirs.close()


async def _until(holds: Any) -> Any:
    async with asyncio.timeout(10):
        while not (found := holds()):  # noqa: ASYNC110  nobody sets an event for us
            await asyncio.sleep(0.005)
    return found


def test_what_is_larger_than_a_message_arrives_whole() -> None:
    async def main() -> None:
        ends = Ends(1 << 22)
        big = bytes(range(256)) * (10 * PART_BYTES // 256)
        assert ends.outlet.offer(big)
        assert ends.outlet.offer(b"small")
        found = await _until(ends.inlet.receive)
        assert zlib.crc32(found) == zlib.crc32(big + b"small")
        assert ends.outlet.waiting == 0
        ends.close()

    asyncio.run(main())


def test_a_logger_that_reads_nothing_fills_the_queue_up_to_its_bound() -> None:
    async def main() -> None:
        ends = Ends(1 << 20)
        taken = 0
        while ends.outlet.offer(b"x" * 10_000):
            taken += 1
            if not taken % 20:
                await asyncio.sleep(0.02)
        assert ends.outlet.waiting <= 1 << 20
        got = 0

        def drain() -> bool:
            nonlocal got
            while (chunk := ends.inlet.receive()) is not None:
                got += len(chunk)
            return got == taken * 10_000

        await _until(drain)
        ends.close()

    asyncio.run(main())


def test_a_chunk_whose_worker_died_in_it_is_forgotten() -> None:
    async def main() -> None:
        ends = Ends(1 << 20)
        ends.ours.send(b"\x03\x00\x01half")
        ends.outlet.offer(b"whole")
        assert await _until(ends.inlet.receive) == b"whole"
        ends.ours.send(b"\x05\x00\x02an end without its begin")
        assert ends.inlet.receive() is None
        ends.close()

    asyncio.run(main())


def test_rows_that_the_logger_gave_up_are_told_to_a_worker() -> None:
    async def main() -> None:
        ends = Ends(1 << 20)
        ends.inlet.lost(7)
        ends.inlet.lost(0)
        await _until(lambda: ends.lost)
        assert ends.lost == [7]
        ends.close()

    asyncio.run(main())


def test_a_tensor_of_another_shape_than_the_file_says_is_refused_by_name() -> None:
    schema = Schema("m", "v", False, True, (Field("x", "FP32", 1),), ())
    records_ = Records([1.0], ["i"], [0], [np.ones((1, 2, 2), np.float32)], [])
    for writer in (Parquet(schema, PLAIN, "pod"), Events(schema, PLAIN, "pod")):
        with pytest.raises(ValueError, match="'x' has shape"):
            writer.encode([records_])


def test_all_types_are_read_back_from_a_file() -> None:
    kinds = {"FP64": 0.1, "INT8": -3, "UINT64": 2**63, "BOOL": True, "FP16": 0.5}
    fields = tuple(Field(name, name, 0) for name in kinds)
    values = [np.array([value], models.np.dtype(_numpy(name))) for name, value in kinds.items()]
    schema = Schema("m", "v", False, True, fields, (Field("t", "BYTES", 2),))
    texts = np.array([["a", "b"], ["ü", ""]], dtype=object)[None]
    body = Parquet(schema, PLAIN, "pod").encode([Records([1.5], ["i"], [1], values, [texts])])[0]
    found = pq.read_table(pa.BufferReader(body.content)).to_pylist()[0]
    assert {name: found[f"input_{name}"] for name in kinds} == kinds
    assert found["output_t"] == [["a", "b"], ["ü", ""]]
    assert (found["track"], found["pod"], found["time"].timestamp(), body.rows) == ("candidate", "pod", 1.5, 1)


def _numpy(name: str) -> Any:
    from homeostat.server.inference.graph import NUMPY

    return NUMPY[name]


def test_a_file_name_is_a_tag_too() -> None:
    from datetime import UTC, datetime

    name = file_name("flights_v7/x é" * 20, "ab12", 7, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert name.endswith("-20260102T030405Z-ab12-0007")
    assert len(name) <= 128
    assert all(c.isalnum() or c in "_.-" for c in name)


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("s3://bucket", "expected file:///folder"),
        ("payloads", "is no address"),
        ("file://payloads", "three slashes"),
        ("oci://host/name:tag", "leave tag and digest out"),
        ("oci://host/Name", "a repository is lower-case"),
        ("http://", "is no address"),
    ],
)
def test_an_address_that_is_wrong_is_named_with_the_fix(to: str, says: str) -> None:
    with pytest.raises(ArtifactError, match=says) as error:
        options(Settings("m", "n", "v", payload_to=to))
    assert error.value.reason == "PayloadSettings"


def test_a_salt_must_have_a_keys_length(tmp_path: Path) -> None:
    salt = tmp_path / "salt"
    for content, says in ((b"short\n", "has 5 bytes"), (b"x" * 65, "has 65 bytes")):
        salt.write_bytes(content)
        with pytest.raises(ArtifactError, match=says):
            options(Settings("m", "n", "v", payload_to="http://h/", payload_hash=("a",), payload_salt_file=str(salt)))


def test_unknown_columns_are_named_with_those_that_there_are() -> None:
    wanted = Options("http", "http://h/", 1, 1, frozenset({"a"}), frozenset({"z"}), b"")
    with pytest.raises(ArtifactError, match="--payload-hash z: the model has no such input; it has a, b"):
        check_columns(wanted, ["a", "b"])


def test_a_socket_pair_keeps_messages_apart() -> None:
    ours, theirs = pair()
    with ours, theirs:
        assert ours.type & socket.SOCK_SEQPACKET
        ours.send(b"a")
        ours.send(b"b")
        assert theirs.recv(10) == b"a"


def test_rows_of_tables_without_numbers_are_framed(flights: tuple[Model, Answers]) -> None:
    schema = Schema("m", "v", True, True, (Field("t", "BYTES", 0),), ())
    outcome: Any = SimpleNamespace(ids=[b"a", b"b"], labels=[], values=[])
    one = frame(schema, Table(2, b"", [("x",), ("y",)]), outcome, [(0, 2)], tracks=[[0, 2]], time=1.0)
    (found,) = decoded(schema, one)
    assert found.inputs[0].tolist() == ["x", "y"]


def test_files_without_pyarrow_are_refused_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for to in ("file:///folder", "oci://host/name"):
        with pytest.raises(ArtifactError, match=r"install homeostat\[payloads\]"):
            options(Settings("m", "n", "v", payload_to=to))
    options(Settings("m", "n", "v", payload_to="https://host/events"))


def test_flags_about_columns_need_an_address(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="need --payload-to"):
        chosen(["--model-dir", str(tmp_path), "--payload-drop", "a"], {})
    settings, _ = chosen(
        ["--model-dir", "m", "--payload-to", "http://h/", "--payload-drop", "a", "--payload-drop=b"], {}
    )
    assert tuple(Settings.from_text(settings.to_text()).payload_drop) == ("a", "b")
