"""What a bundle holds beside `model.onnx`: manifest, signature, baseline, metrics. No clock times: the same run gives the same bytes."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

MODEL_FILE: Final = "model.onnx"
MANIFEST_FILE: Final = "bundle.json"
SIGNATURE_FILE: Final = "signature.json"
BASELINE_FILE: Final = "baseline.json"
METRICS_FILE: Final = "metrics.json"
ARTIFACT_TYPE: Final = "application/vnd.homeostat.model.v1"
DATA_ARTIFACT_TYPE: Final = "application/vnd.homeostat.data.v1"


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class File(_Wire):
    """One file of the bundle."""

    name: str
    digest: str
    size: int


class Manifest(_Wire):
    """The bundle's table of contents."""

    v: Literal[1] = 1
    files: tuple[File, ...]


class Column(_Wire):
    """One named column of a row, and where it goes: column `index` of graph input `tensor`."""

    name: str
    type: Literal["number", "string"]
    tensor: str
    index: int


class Signature(_Wire):
    """How rows become tensors, and what comes out.

    Numbers are cast to float32 (missing: NaN), strings stay strings (missing: `""`).
    labels: class labels in the order of the probabilities, as strings; empty for a regression.
    label_type: JSON type of a label in answers and feedback.
    label_output / score_output: names of graph outputs; score_output holds (n, classes) probabilities or (n, 1) values.
    """

    v: Literal[1] = 1
    task: Literal["binary", "multiclass", "regression"]
    columns: tuple[Column, ...]
    label_output: str = ""
    score_output: str
    labels: tuple[str, ...] = ()
    label_type: Literal["integer", "number", "string", "boolean"] = "integer"


class FeatureBaseline(_Wire):
    """Frozen cells of one feature and how many training rows fell in each.

    kind number: cells are value <= edges[0], (edges[0], edges[1]], …, > edges[-1]; category: one per level.
    counts: value cells, then `nan` (missing), then `other` (unseen level; always 0 for numbers).
    """

    name: str
    kind: Literal["number", "category"]
    edges: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()
    counts: tuple[int, ...]


class PredictionBaseline(_Wire):
    """Cells of the prediction on held-out rows.

    probability: 20 equal cells of P(last label) in [0, 1]; classes: one cell per label; number: by edges.
    """

    kind: Literal["probability", "classes", "number"]
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...]


class GramBaseline(_Wire):
    """Sums over the training rows of normal scores of cells and of their products (`homeostat.stats.gram`).

    features: places in `Baseline.features`, g of them. scale: a score of 1 is written as this.
    sums: of a_i, (g,), times scale; products: of a_i a_j for i <= j, row by row of the upper triangle, times scale².
    """

    features: tuple[int, ...]
    scale: Literal[1024] = 1024
    sums: tuple[int, ...]
    products: tuple[int, ...]


class ProjectionBaseline(_Wire):
    """Random projections of the normal scores of all features: which they are, their cells, training rows by cell.

    seed: decides the signs. edges, counts: by projection; cells are (-inf, edges[0]], (edges[0], edges[1]], …, in units of 1 / 1024.
    """

    seed: int
    edges: tuple[tuple[float, ...], ...]
    counts: tuple[tuple[int, ...], ...]


class Baseline(_Wire):
    """What training saw: the reference of drift. `edges_id` hashes everything that decides a row's cell.

    gram, projections: null in a baseline of an older trainer; they are then not counted.
    """

    v: Literal[1] = 1
    edges_id: str
    rows: int
    features: tuple[FeatureBaseline, ...]
    prediction: PredictionBaseline
    error_rate: float | None = None
    test_rows: int = 0
    gram: GramBaseline | None = None
    projections: ProjectionBaseline | None = None
