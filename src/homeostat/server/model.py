"""The model in a worker: an ONNX Runtime session behind a signature."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from homeostat.api.wire.bundle import Column, Signature
from homeostat.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class Feed:
    """One graph input: which columns of the numbers or strings it takes; None: all, in order."""

    tensor: str
    number: bool
    columns: NDArray[np.intp] | None


@dataclass(frozen=True, slots=True)
class Predicted:
    """Predictions of n rows. labels: as the graph gives them, (n,), empty for a regression. scores: (n, k) float."""

    labels: list[Any]
    scores: NDArray[Any]


class Model:
    """A loaded model. Rows in, predictions out; how many rows come at once changes no answer."""

    def __init__(self, session: Any, signature: Signature) -> None:
        self.signature = signature
        self._session = session
        self._feeds = _feeds(signature)
        self._wanted = [n for n in (signature.label_output, signature.score_output) if n]

    def predict(self, numbers: NDArray[np.float32], strings: Sequence[tuple[str, ...]]) -> Predicted:
        """numbers: (n, f) float32; strings: n rows. A lone row runs as two: a batch of one differs in the last bit."""
        rows = max(len(numbers), len(strings))
        if rows == 1:
            numbers, strings = np.repeat(numbers, 2, axis=0), list(strings) * 2
        texts: NDArray[Any] | None = None
        feeds = {}
        for feed in self._feeds:
            if not feed.number and texts is None:
                texts = np.array(strings, dtype=object)
            whole = numbers if feed.number else texts
            feeds[feed.tensor] = whole if feed.columns is None else whole[:, feed.columns]  # type: ignore[index]
        found = self._session.run(self._wanted, feeds)
        labels = found[0][:rows].tolist() if self.signature.label_output else []
        return Predicted(labels, _scores(found[-1], rows))


def load(path: Path, signature: Signature | None, threads: int) -> Model:
    """The model, tried once with two rows of missing values. Raises ArtifactError `LoadFailed`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises many kinds
        raise ArtifactError("LoadFailed", f"ONNX Runtime cannot load {path.name}: {_first(error)}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    found = signature or signature_of(inputs, outputs)
    _agree(found, inputs, outputs)
    model = Model(session, found)
    columns = found.columns
    numbers = np.zeros((2, sum(c.type == "number" for c in columns)), np.float32)
    strings = [("",) * (len(columns) - numbers.shape[1])] * 2
    try:
        tried = model.predict(numbers, strings)
    except Exception as error:
        raise ArtifactError("LoadFailed", f"{path.name} loads, but fails on a row: {_first(error)}") from error
    if len(tried.scores) != 2:
        raise ArtifactError(
            "LoadFailed", f"{path.name} gives {len(tried.scores)} scores for 2 rows: its batch size is fixed"
        )
    return model


def signature_of(inputs: Sequence[Any], outputs: Sequence[Any]) -> Signature:
    """The signature of a model that came without one: one float tensor of fixed width. Raises ArtifactError `LoadFailed`."""
    only = inputs[0]
    width = only.shape[1] if len(inputs) == 1 and len(only.shape) == 2 else None
    if only.type != "tensor(float)" or not isinstance(width, int):
        shown = ", ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs)
        raise ArtifactError(
            "LoadFailed",
            f"without signature.json one input of type tensor(float) and shape [n, columns] is needed; this one has {shown}",
        )
    names = [only.name] if width == 1 else [f"{only.name}_{i}" for i in range(width)]
    columns = tuple(Column(name=n, type="number", tensor=only.name, index=i) for i, n in enumerate(names))
    labels = next((o for o in outputs if o.type in {"tensor(int64)", "tensor(string)"}), None)
    scores = next((o for o in outputs if o is not labels), None)
    if scores is None:
        raise ArtifactError("LoadFailed", f"the model has no output of scores: {', '.join(o.name for o in outputs)}")
    if labels is None:
        return Signature(task="regression", columns=columns, score_output=scores.name, label_type="number")
    kind = "string" if labels.type == "tensor(string)" else "integer"
    return Signature(
        task="multiclass", columns=columns, label_output=labels.name, score_output=scores.name, label_type=kind
    )


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


def _agree(signature: Signature, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Raise ArtifactError `LoadFailed` when graph and signature name different tensors."""
    given, needed = {c.tensor for c in signature.columns}, {i.name for i in inputs}
    if given != needed:
        raise ArtifactError(
            "LoadFailed", f"signature.json fills {sorted(given)}, but the model's inputs are {sorted(needed)}"
        )
    named = {signature.score_output, signature.label_output} - {""}
    missing = named - {o.name for o in outputs}
    if missing:
        raise ArtifactError("LoadFailed", f"signature.json names outputs that the model lacks: {sorted(missing)}")


def _scores(found: Any, rows: int) -> NDArray[Any]:
    """(n, k) scores; a list of maps, as older converters give, becomes a table in the maps' order."""
    if isinstance(found, list):
        found = np.array([list(one.values()) for one in found], dtype=np.float32)
    scores: NDArray[Any] = found[:rows]
    return scores.reshape(len(scores), -1)


def _first(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
