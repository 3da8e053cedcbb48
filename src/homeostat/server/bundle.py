"""The model's folder, as both supervisor and workers see it. No numpy and no runtime here: the supervisor stays small."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from homeostat.api.wire.bundle import BASELINE_FILE, MODEL_FILE, SIGNATURE_FILE, Baseline, Signature
from homeostat.errors import ArtifactError
from homeostat.server.counters import Shape

PROBABILITY_CELLS: Final = 20
T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Bundle:
    """One model with what came with it. baseline_digest: SHA-256 of `baseline.json`, empty without one."""

    model: Path
    signature: Signature | None
    baseline: Baseline | None
    baseline_digest: str

    @property
    def shape(self) -> Shape:
        """How much room the counters of this model need."""
        columns = self.signature.columns if self.signature else ()
        numbers = sum(c.type == "number" for c in columns)
        features = tuple(len(f.counts) for f in self.baseline.features) if self.baseline else ()
        return Shape(numbers, len(columns) - numbers, features, self.prediction_cells)

    @property
    def prediction_cells(self) -> int:
        """Score cells: the baseline's, else 20 for two classes, one per class for more, none for a value."""
        if self.baseline:
            return len(self.baseline.prediction.counts)
        if self.signature is None or self.signature.task == "regression":
            return 0
        return PROBABILITY_CELLS if self.signature.task == "binary" else len(self.signature.labels)


def read_bundle(folder: Path, max_model_bytes: int) -> Bundle:
    """What lies in `folder`. Raises ArtifactError: `ModelMissing`, `ModelTooLarge`, `LoadFailed`."""
    model = folder / MODEL_FILE
    try:
        size = model.stat().st_size
    except OSError as error:
        raise ArtifactError("ModelMissing", f"{model} cannot be read: {error.strerror}") from error
    if size > max_model_bytes:
        raise ArtifactError(
            "ModelTooLarge", f"{model.name} has {size} bytes; at most {max_model_bytes} are loaded (--max-model-bytes)"
        )
    signature, _ = _read(folder / SIGNATURE_FILE, Signature)
    baseline, content = _read(folder / BASELINE_FILE, Baseline)
    if baseline is not None and signature is not None:
        _agree(signature, baseline)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}" if content else ""
    return Bundle(model, signature, baseline if signature else None, digest)


def _read(path: Path, kind: type[T]) -> tuple[T | None, bytes]:
    try:
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
