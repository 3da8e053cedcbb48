"""What the optimisation of a model found: `optimization.json` beside the model, the optimising container's last words, `/stats`."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

OPTIMIZED_FILE: Final = "model.optimized.onnx"
OPTIMIZATION_FILE: Final = "optimization.json"
OPTIMIZATION_ARTIFACT_TYPE: Final = "application/vnd.homeostat.optimization.v1"

Kind = Literal["Graph", "Int8Dynamic", "Float16"]


class Optimization(BaseModel):
    """One model, optimised in one way and compared with the original. No clock times.

    original, digest: SHA-256 of `model.onnx` and of the optimised file; `digest` is empty when none could be made.
    size, original_size: bytes. rows: how many were compared.
    difference: the largest change of a score over these rows: of a probability itself, of a value as share of the value's
    size or, where that is smaller, of the values' standard deviation. labels: share of rows with another label.
    speedup: time of the original for a batch of 32 rows on one thread, divided by the optimised one's.
    runtime, machine: ONNX Runtime's version, and the CPU with its instruction sets: where all of this holds.
    used: whether this file is served; if not, `reason` (`AboveTolerance`, `NoGain`, `NothingToOptimize`, `BatchDependent`,
    or why it could not be made) and `message` say why.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: Literal[1] = 1
    type: Kind
    original: str
    digest: str = ""
    size: int = 0
    original_size: int = 0
    rows: int = 0
    difference: float | None = None
    labels: float = 0.0
    speedup: float | None = None
    runtime: str = ""
    machine: str = ""
    used: bool = False
    reason: str = ""
    message: str = ""
