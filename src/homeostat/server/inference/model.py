"""The model in a worker: an ONNX Runtime session, and how rows become its tensors."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from homeostat.api.wire.bundle import Column, Signature
from homeostat.errors import ArtifactError
from homeostat.server.inference import rows, tensors
from homeostat.server.inference.graph import NUMPY, Graph, as_array, graph_of
from homeostat.server.inference.rows import Table, TableReader
from homeostat.server.inference.tensors import TensorReader, Tensors
from homeostat.server.inference.work import Rows

Outputs = list[NDArray[Any]]
PROBES: Final = 8  # rows that are predicted alone and together, to see whether an answer depends on its batch
AGREE: Final = 1e-6
_ANY_SIZE: Final = 4  # what a probe takes for an axis of any size


@dataclass(frozen=True, slots=True)
class Feed:
    """One graph input: which columns of the numbers or strings it takes; None: all, in order."""

    tensor: str
    number: bool
    columns: NDArray[np.intp] | None


class Model(Protocol):
    """A loaded model. batched: rows of several requests may run together; how many they are changes no answer.

    signature: of the bundle, or read from the file. row_seconds: what a row took when it was tried.
    """

    graph: Graph
    signature: Signature
    batched: bool
    row_seconds: float

    def reader(self) -> "TableReader | TensorReader":
        """What reads requests for this model."""
        ...

    def join(self, parts: Sequence[Any]) -> Any:
        """The rows of several requests as one."""
        ...

    def run(self, joined: Any, options: Any) -> Outputs:
        """The outputs for these rows; options: `RunOptions`. Raises what the runtime raises."""
        ...

    def example(self, count: int) -> Rows:
        """Made-up rows of the right shape, always the same."""
        ...


class TableModel:
    """Numbers and strings by column: models with a signature, and those that take one float matrix.

    A lone row runs as two: a batch of one differs in the last bit.
    """

    def __init__(self, session: Any, graph: Graph, signature: Signature) -> None:
        self.graph, self.signature, self.batched = graph, signature, True
        self.row_seconds = 0.0
        self._run = session.run
        self._feeds = _feeds(signature)
        self._names = [n for n in (signature.label_output, signature.score_output) if n]
        self._ports = [port for name in self._names for port in graph.outputs if port.name == name]

    def reader(self) -> TableReader:
        """See Model."""
        return TableReader(self.signature)

    def join(self, parts: Sequence[Table]) -> Table:
        """See Model."""
        return rows.joined(parts)

    def run(self, joined: Table, options: Any) -> Outputs:
        """See Model."""
        count = joined.count
        numbers, strings = joined.matrix(), joined.strings
        if count == 1 and self.batched:
            numbers, strings = np.repeat(numbers, 2, axis=0), strings * 2
        texts: NDArray[Any] | None = None
        feeds = {}
        for feed in self._feeds:
            if not feed.number and texts is None:
                texts = np.array(strings, dtype=object)
            whole = numbers if feed.number else texts
            feeds[feed.tensor] = whole if feed.columns is None else whole[:, feed.columns]  # type: ignore[index]
        found = self._run(self._names, feeds, options)
        return [as_array(port, one)[:count] for port, one in zip(self._ports, found, strict=True)]

    def example(self, count: int) -> Table:
        """See Model: numbers around 0, empty and short strings."""
        columns = self.signature.columns
        width = sum(c.type == "number" for c in columns)
        numbers = np.random.default_rng(1).normal(size=(count, width)).astype(np.float32)
        strings = [tuple("" if (i + j) % 2 else "a" for j in range(len(columns) - width)) for i in range(count)]
        return Table(count, numbers.tobytes(), strings)


class TensorModel:
    """Tensors of any shape, as the graph names them."""

    def __init__(self, session: Any, graph: Graph, signature: Signature) -> None:
        self.graph, self.signature, self.batched = graph, signature, graph.batched
        self.row_seconds = 0.0
        self._run = session.run
        self._inputs = [port.name for port in graph.inputs]

    def reader(self) -> TensorReader:
        """See Model."""
        return TensorReader(self.graph)

    def join(self, parts: Sequence[Tensors]) -> Tensors:
        """See Model."""
        return tensors.joined(parts)

    def run(self, joined: Tensors, options: Any) -> Outputs:
        """See Model."""
        arrays, count = joined.arrays, joined.count
        twice = self.batched and count == 1
        if twice:
            arrays = tuple(np.concatenate((one, one)) for one in arrays)
        found = self._run(None, dict(zip(self._inputs, arrays, strict=True)), options)
        outputs = [as_array(port, one) for port, one in zip(self.graph.outputs, found, strict=True)]
        return [one[:count] for one in outputs] if twice else outputs

    def example(self, count: int) -> Tensors:
        """See Model: numbers around 0 (whole ones: 0 and 1), short strings."""
        random = np.random.default_rng(1)
        arrays = []
        for port in self.graph.inputs:
            shape = [_ANY_SIZE if size is None else size for size in port.shape]
            if port.batched:
                shape[0] = count
            kind = NUMPY[port.datatype]
            if port.datatype == "BYTES":
                arrays.append(np.full(shape, "a", dtype=object))
            else:
                made = random.normal(size=shape) if np.issubdtype(kind, np.floating) else random.integers(0, 2, shape)
                arrays.append(np.asarray(made).astype(kind))
        return Tensors(count if self.graph.batched else 1, tuple(arrays))


def load(path: Path, signature: Signature | None, threads: int) -> Model:
    """The model, tried on made-up rows alone and together. Raises ArtifactError `LoadFailed`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises many kinds
        raise ArtifactError("LoadFailed", f"ONNX Runtime cannot load {path.name}: {_first(error)}") from error
    graph = graph_of(session)
    model: Model
    if signature is not None:
        _agree(signature, graph)
        model = TableModel(session, graph, signature)
    else:
        found = signature_of(graph)
        model = TableModel(session, graph, found) if found.columns else TensorModel(session, graph, found)
    try:
        model.batched = model.batched and _same_in_any_batch(model)
        model.row_seconds = _timed(model)
    except Exception as error:
        raise ArtifactError("LoadFailed", f"{path.name} loads, but fails on a row: {_first(error)}") from error
    return model


def _same_in_any_batch(model: Model) -> bool:
    """Whether rows predicted one by one give what they give together: to 1e-6 relative, labels equally."""
    options = ort.RunOptions()
    together = model.example(PROBES)
    whole = model.run(together, options)
    if any(len(one) != PROBES for one in whole):
        if isinstance(model, TableModel):
            raise ValueError(
                f"it gives {[len(one) for one in whole]} results for {PROBES} rows: its batch size is fixed"
            )
        return False
    for place in range(PROBES):
        alone = model.run(together.part(place, place + 1), options)
        for one, all_ in zip(alone, whole, strict=True):
            mine, shared = one[0], all_[place]
            if one.dtype.kind != "f":
                if not np.array_equal(mine, shared):
                    return False
            elif not np.allclose(mine, shared, rtol=AGREE, atol=1e-30, equal_nan=True):
                return False
    return True


def _timed(model: Model) -> float:
    """Seconds that a row takes, warm."""
    options, tried = ort.RunOptions(), model.example(PROBES)
    begun = time.perf_counter()
    model.run(tried, options)
    return (time.perf_counter() - begun) / tried.count


def signature_of(graph: Graph) -> Signature:
    """What a file alone tells: columns when it takes one float matrix; label and scores where its outputs look like such."""
    columns: tuple[Column, ...] = ()
    only = graph.inputs[0] if len(graph.inputs) == 1 else None
    if only is not None and only.datatype == "FP32" and len(only.shape) == 2 and only.batched and graph.batched:
        width = only.shape[1]
        if width is not None:
            names = [only.name] if width == 1 else [f"{only.name}_{i}" for i in range(width)]
            columns = tuple(Column(name=n, type="number", tensor=only.name, index=i) for i, n in enumerate(names))
    labels = [o for o in graph.outputs if o.datatype in {"INT64", "BYTES"} and len(o.shape) == 1]
    scores = [o for o in graph.outputs if o.datatype in {"FP32", "FP64"} and len(o.shape) in {1, 2}]
    if len(graph.outputs) == 2 and len(labels) == 1 and len(scores) == 1:
        kind = "string" if labels[0].datatype == "BYTES" else "integer"
        return Signature(
            task="multiclass",
            columns=columns,
            label_output=labels[0].name,
            score_output=scores[0].name,
            label_type=kind,
        )
    one = len(graph.outputs) == 1 and len(scores) == 1
    score = scores[0].name if one and (len(scores[0].shape) == 1 or scores[0].shape[1] == 1) else ""
    if not score:  # nothing that a label could be compared with: every output is answered as it is
        columns = ()
    return Signature(task="regression", columns=columns, score_output=score, label_type="number")


def _feeds(signature: Signature) -> list[Feed]:
    places: dict[str, list[tuple[int, int]]] = {}
    kinds: dict[str, bool] = {}
    counts = {"number": 0, "string": 0}
    for column in signature.columns:
        places.setdefault(column.tensor, []).append((column.index, counts[column.type]))
        kinds[column.tensor] = column.type == "number"
        counts[column.type] += 1
    feeds = []
    for tensor, pairs in places.items():
        columns = [place for _, place in sorted(pairs)]
        everything = columns == list(range(counts["number" if kinds[tensor] else "string"]))
        feeds.append(Feed(tensor, kinds[tensor], None if everything else np.array(columns)))
    return feeds


def _agree(signature: Signature, graph: Graph) -> None:
    """Raise ArtifactError `LoadFailed` when graph and signature name different tensors."""
    taken, needed = {c.tensor for c in signature.columns}, {port.name for port in graph.inputs}
    if taken != needed:
        raise ArtifactError(
            "LoadFailed", f"signature.json fills {sorted(taken)}, but the model's inputs are {sorted(needed)}"
        )
    named = {signature.score_output, signature.label_output} - {""}
    missing = named - {port.name for port in graph.outputs}
    if missing:
        raise ArtifactError("LoadFailed", f"signature.json names outputs that the model lacks: {sorted(missing)}")


def _first(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
