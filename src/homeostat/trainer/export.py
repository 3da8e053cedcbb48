"""The fitted pipeline as ONNX graph, scored and compared with the original."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from homeostat.api.wire.bundle import Column, Signature
from homeostat.errors import ArtifactError
from homeostat.trainer.table import Columns, as_feeds
from homeostat.trainer.target import Target

TOLERANCE: Final = 1e-4
_OPSET: Final = {"": 18, "ai.onnx.ml": 3}
_GRAPH: Final = "homeostat"  # skl2onnx's default is a random one, and then no two runs give the same bytes


@dataclass(frozen=True, slots=True)
class Scores:
    """Predictions of rows: labels (n,) for a classifier (else empty), scores (n, classes) or (n, 1)."""

    labels: NDArray[Any]
    scores: NDArray[np.float64]


def convert(model: Any, columns: Columns) -> bytes:
    """The pipeline as ONNX, the same bytes for the same pipeline. Raises ArtifactError `ConversionFailed`."""
    import onnx
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    inputs = [
        *([("numbers", FloatTensorType([None, len(columns.numbers)]))] if columns.numbers else []),
        *([("strings", StringTensorType([None, len(columns.strings)]))] if columns.strings else []),
    ]
    options = {id(model): {"zipmap": False}} if hasattr(model, "classes_") else None
    try:
        graph = convert_sklearn(model, _GRAPH, inputs, options=options, target_opset=_OPSET)
        onnx.checker.check_model(graph)
    except Exception as error:  # converters raise all kinds
        name = type(model.steps[-1][1]).__name__
        because = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        raise ArtifactError(
            "ConversionFailed", f"{name} cannot become an ONNX model, choose another estimator ({because})"
        ) from error
    opsets = sorted(graph.opset_import, key=lambda o: o.domain)  # the converter goes through a set, in any order
    del graph.opset_import[:]
    graph.opset_import.extend(opsets)
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def session(content: bytes | Path) -> Any:
    """An ONNX Runtime session on one thread per run of ours. Raises ArtifactError `NotOnnx`."""
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(
            content if isinstance(content, bytes) else str(content), providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ArtifactError("NotOnnx", f"ONNX Runtime cannot load the model: {str(error)[:300]}") from error


def describe(running: Any, columns: Columns, target: Target) -> Signature:
    """How rows become this graph's inputs, and which outputs mean what."""
    listed = [
        *(Column(name=n, type="number", tensor="numbers", index=i) for i, n in enumerate(columns.numbers)),
        *(Column(name=n, type="string", tensor="strings", index=i) for i, n in enumerate(columns.strings)),
    ]
    outputs = [output.name for output in running.get_outputs()]
    return Signature(
        task=target.task,
        columns=tuple(listed),
        label_output=outputs[0] if target.classes else "",
        score_output=outputs[-1],
        labels=target.labels,
        label_type=target.label_type,
    )


def score(running: Any, signature: Signature, frame: pd.DataFrame) -> Scores:
    """The graph's predictions of the rows. Raises ArtifactError: `ColumnMissing`, `ColumnUnsupported`, `NotOnnx`."""
    feeds = as_feeds(frame, signature)
    wanted = [*([signature.label_output] if signature.label_output else []), signature.score_output]
    try:
        answers = running.run(wanted, feeds)
    except Exception as error:
        raise ArtifactError("NotOnnx", f"ONNX Runtime cannot run the model: {str(error)[:300]}") from error
    scores = np.asarray(answers[-1], dtype=np.float64).reshape(len(frame), -1)
    labels = np.asarray(answers[0]).ravel() if signature.label_output else np.empty(0)
    return Scores(labels, scores)


def require_same(original: Scores, graph: Scores) -> float:
    """The largest difference. Raises ArtifactError `OnnxMismatch` above 1e-4 (of the value, for a regression).

    Labels must be equal, except where the two best classes are nearer to each other than the tolerance.
    """
    scale = 1.0 if len(original.labels) else np.maximum(1.0, np.abs(original.scores))
    apart = np.abs(original.scores - graph.scores) / scale
    worst = float(apart.max(initial=0.0))
    if not worst <= TOLERANCE:
        raise ArtifactError(
            "OnnxMismatch",
            f"the ONNX model differs from scikit-learn's by {worst:.2g} on {int((~(apart <= TOLERANCE)).any(axis=1).sum())} of "
            f"{len(apart)} held-out rows (allowed: {TOLERANCE:g}): choose another estimator or other parameters",
        )
    if len(original.labels):
        best = np.sort(original.scores, axis=1)
        clear = best[:, -1] - best[:, -2] > 2 * TOLERANCE
        wrong = int(((original.labels != graph.labels) & clear).sum())
        if wrong:
            raise ArtifactError(
                "OnnxMismatch", f"the ONNX model gives another label on {wrong} of {len(apart)} held-out rows"
            )
    return worst
