"""Whether an optimised model is served instead of its original. No numpy and no runtime here: `homeostat optimize` stays small."""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final

from homeostat.api.wire.optimization import Kind, Optimization
from homeostat.server.life.bundle import Bundle

LEAST_SPEEDUP: Final = 1.05  # below, what a pod measures is noise, and exact answers are worth more
FIGURES: Final = 4  # significant ones, in what is said
_CPU: Final = Path("/proc/cpuinfo")
_SETS: Final = frozenset(
    {"avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_int8"}
    | {"asimddp", "i8mm", "fphp", "asimdhp", "sve", "bf16"}
)


def judged(found: Optimization, tolerance: float, *, required: bool) -> Optimization:
    """The same with `used`, `reason` and `message`. required: speed does not count, only tolerance.

    Never used: what could not be made, changes a score or the share of changed labels by more than `tolerance`, or
    answers a row by the rows that share its batch.
    """
    reason, message = _refusal(found, tolerance, required=required)
    return found.model_copy(update={"used": not reason, "reason": reason, "message": message})


def _refusal(found: Optimization, tolerance: float, *, required: bool) -> tuple[str, str]:
    if not found.digest:
        return found.reason or "OptimizationFailed", found.message or "no optimised file could be made"
    if found.reason == "BatchDependent":
        return found.reason, found.message
    if found.difference is None or not found.difference <= tolerance:
        return "AboveTolerance", (
            f"{found.type} changes a score by up to {_shown(found.difference)} over {found.rows} rows; "
            f"the tolerance is {tolerance:g} (spec.optimization.tolerance)"
        )
    if not found.labels <= tolerance:
        return "AboveTolerance", (
            f"{found.type} changes the label of {found.labels:.2%} of {found.rows} rows; "
            f"the tolerance is {tolerance:g} (spec.optimization.tolerance)"
        )
    if not required and (found.speedup is None or not found.speedup >= LEAST_SPEEDUP):
        return "NoGain", (
            f"{found.type} is {_shown(found.speedup)} times as fast as the original, which is kept below {LEAST_SPEEDUP:g}"
        )
    return "", ""


def _shown(number: float | None) -> str:
    return "an unknown number" if number is None else f"{number:.{FIGURES}g}"


def sentence(found: Optimization) -> str:
    """What came of it, for a log."""
    if not found.used:
        return f"the original is served: {found.message} ({found.reason})"
    return (
        f"the {found.type} model is served: {_shown(found.speedup)} times as fast, {found.size} bytes instead of "
        f"{found.original_size}; scores differ by up to {_shown(found.difference)} over {found.rows} rows"
    )


def to_text(found: Optimization) -> str:
    """JSON, keys sorted, without spaces: a termination message, `optimization.json`."""
    return json.dumps(found.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def blank(kind: Kind, bundle: Bundle) -> Optimization:
    """Nothing found yet."""
    size = bundle.model.stat().st_size
    runtime, original = version("onnxruntime"), sha256(bundle.model)
    return Optimization(type=kind, original=original, original_size=size, runtime=runtime, machine=machine())


def because(found: Optimization, reason: str, message: str) -> Optimization:
    """The same with why it is not used."""
    return found.model_copy(update={"reason": reason, "message": message})


def sha256(path: Path) -> str:
    """`sha256:…` of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def machine() -> str:
    """The CPU as far as it decides speed and last bits: `x86_64 avx avx2 f16c fma`."""
    try:
        lines = _CPU.read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    return " ".join([platform.machine(), *sorted(_SETS & set(flags.split()))])
