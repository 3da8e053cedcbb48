"""The model's folder, as both supervisor and workers see it. No numpy and no runtime here: the supervisor stays small."""

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from homeostat.api.wire.bundle import BASELINE_FILE, MODEL_FILE, SIGNATURE_FILE, Baseline, Signature
from homeostat.api.wire.optimization import OPTIMIZATION_FILE, OPTIMIZED_FILE, Optimization
from homeostat.errors import ArtifactError
from homeostat.server.counting.counters import Shape

PROBABILITY_CELLS: Final = 20
MAX_JSON: Final = 64 << 20
PROJECTIONS: Final = 16  # `homeostat.stats.gram` has as many; it is not imported here, for it needs numpy
T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Bundle:
    """One model with what came with it. baseline_digest: SHA-256 of `baseline.json`, empty without one.

    optimization: what `homeostat optimize` left in the folder; `model` stays the original, whose digest names the version.
    """

    model: Path
    signature: Signature | None
    baseline: Baseline | None
    baseline_digest: str
    optimization: Optimization | None = None

    @property
    def served(self) -> Path:
        """The file that is loaded."""
        used = self.optimization is not None and self.optimization.used
        return self.model.with_name(OPTIMIZED_FILE) if used else self.model

    @property
    def shape(self) -> Shape:
        """How much room the counters of this model need."""
        columns = self.signature.columns if self.signature else ()
        numbers = sum(c.type == "number" for c in columns)
        seen = self.baseline
        features = tuple(len(f.counts) for f in seen.features) if seen else ()
        gram = len(seen.gram.features) if seen and seen.gram else 0
        projections = tuple(len(edges) + 1 for edges in seen.projections.edges) if seen and seen.projections else ()
        return Shape(numbers, len(columns) - numbers, features, self.prediction_cells, gram, projections)

    @property
    def prediction_cells(self) -> int:
        """Score cells: the baseline's, else 20 for two classes, one per class for more, none for a value."""
        if self.baseline:
            return len(self.baseline.prediction.counts)
        if self.signature is None or self.signature.task == "regression":
            return 0
        return PROBABILITY_CELLS if self.signature.task == "binary" else len(self.signature.labels)


def read_bundle(place: Path, max_model_bytes: int) -> Bundle:
    """What lies at `place`: a folder with `model.onnx` (or one other `.onnx` file), or an ONNX file by itself.

    Raises ArtifactError: `ModelMissing`, `ModelTooLarge`, `LoadFailed`.
    """
    model = _model_file(place)
    try:
        found = model.stat()
    except OSError as error:
        raise ArtifactError("ModelMissing", f"{model} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise ArtifactError("ModelMissing", f"{model} is no plain file")
    if found.st_size > max_model_bytes:
        raise ArtifactError(
            "ModelTooLarge",
            f"{model.name} has {found.st_size} bytes; at most {max_model_bytes} are loaded (--max-model-bytes)",
        )
    if model == place and model.name != MODEL_FILE:  # what lies beside a lone file need not belong to it
        return Bundle(model, None, None, "")
    folder = model.parent
    signature, _ = _read(folder / SIGNATURE_FILE, Signature)
    baseline, content = _read(folder / BASELINE_FILE, Baseline)
    if baseline is not None and signature is not None:
        _agree(signature, baseline)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}" if content else ""
    optimization, _ = _read(folder / OPTIMIZATION_FILE, Optimization)
    return Bundle(model, signature, baseline if signature else None, digest, optimization)


def _model_file(place: Path) -> Path:
    """The model at `place`; `model.onnx` wins, then the only `.onnx` file."""
    if not place.is_dir() or (place / MODEL_FILE).exists():
        return place / MODEL_FILE if place.is_dir() else place
    others = sorted(file for file in place.glob("*.onnx") if file.name != OPTIMIZED_FILE)[:2]
    return others[0] if len(others) == 1 else place / MODEL_FILE


def check_digest(model: Path, wanted: str) -> None:
    """Nothing when the file has that SHA-256 (`sha256:…`). Raises ArtifactError `DigestMismatch`."""
    with model.open("rb") as file:
        found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    if found != wanted:
        raise ArtifactError(
            "DigestMismatch", f"{model.name} has digest {found}, but {wanted} is wanted (--digest): fetch it again"
        )


def _read(path: Path, kind: type[T]) -> tuple[T | None, bytes]:
    try:
        if path.stat().st_size > MAX_JSON:
            raise ArtifactError("LoadFailed", f"{path.name} has more than {MAX_JSON} bytes")
        content = path.read_bytes()
    except FileNotFoundError:
        return None, b""
    except OSError as error:
        raise ArtifactError("LoadFailed", f"{path.name} cannot be read: {error.strerror}") from error
    try:
        return kind.model_validate_json(content), content
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ArtifactError("LoadFailed", f"{path.name} is not valid: {where}: {first['msg']}") from error


def _agree(signature: Signature, baseline: Baseline) -> None:
    """Each feature of the baseline must be a column of the kind that its cells are made for."""
    types = {column.name: column.type for column in signature.columns}
    for feature in baseline.features:
        wanted = "number" if feature.kind == "number" else "string"
        if types.get(feature.name) != wanted:
            found = types.get(feature.name, "missing")
            raise ArtifactError(
                "LoadFailed",
                f"baseline.json has cells for {wanted}s of {feature.name!r}, which is {found} in signature.json",
            )
        cells = len(feature.edges) + 3 if feature.kind == "number" else len(feature.levels) + 2
        if len(feature.counts) != cells:
            raise ArtifactError(
                "LoadFailed", f"baseline.json: {feature.name!r} has {len(feature.counts)} counts for {cells} cells"
            )
    _agree_on_products(baseline)


def _agree_on_products(baseline: Baseline) -> None:
    """What decides Gram sums and projections must fit the features."""
    features, sums, projections = len(baseline.features), baseline.gram, baseline.projections
    if sums is not None and not all(0 <= i < features for i in sums.features):
        raise ArtifactError("LoadFailed", f"baseline.json: gram.features names places beyond the {features} features")
    if projections is not None and (
        len(projections.edges) != PROJECTIONS or len({len(edges) for edges in projections.edges}) > 1
    ):
        raise ArtifactError(
            "LoadFailed", f"baseline.json: projections.edges must be {PROJECTIONS} lists of the same length"
        )
