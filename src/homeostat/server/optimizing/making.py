"""`python -m homeostat.server.optimizing.making ARGS` (JSON): make the optimised file and compare it, in a limited process of its own.

The file is hostile until proven otherwise, and quantising takes memory: what goes wrong here ends this process only.
Exit 0: standard output is the `Optimization`, not yet judged. Anything else: the file ended us.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from homeostat.api.wire.optimization import OPTIMIZED_FILE, Kind, Optimization
from homeostat.errors import ArtifactError
from homeostat.server.life.bundle import Bundle, read_bundle
from homeostat.server.life.check import confine
from homeostat.server.optimizing.optimized import because, blank, sha256

_ROOM_TO_WRITE: Final = 1 << 20  # bytes beyond twice the original


@dataclass(frozen=True, slots=True)
class Task:
    """What to do. memory: bytes; seconds: of CPU. known: what an earlier pod measured, as JSON: the file is there already."""

    place: str
    kind: Kind
    max_bytes: int
    memory: int
    seconds: float
    known: str = ""

    def to_text(self) -> str:
        """JSON, for the command line."""
        return json.dumps(asdict(self))


def main(task: Task) -> int:
    """Do it, and say what came of it. Returns 0."""
    bundle = read_bundle(Path(task.place), task.max_bytes)
    files = (file for file in bundle.model.parent.iterdir() if file.is_file())
    written = 2 * sum(file.stat().st_size for file in files) + _ROOM_TO_WRITE
    confine(task.memory, task.seconds, written)
    said = sys.stdout
    sys.stdout = sys.stderr  # libraries print
    found = _found(task, bundle)
    said.write(found.model_dump_json())
    return 0


def _found(task: Task, bundle: Bundle) -> Optimization:
    from homeostat.server.life import gate

    made = bundle.model.parent / OPTIMIZED_FILE
    try:
        gate.inspect(bundle.model, task.max_bytes)
        if not task.known:
            from homeostat.artifacts.optimizers import optimize

            optimize(task.kind, bundle.model, made)
        _inspect(made, task)
        return _measured(task, bundle, made)
    except ArtifactError as error:
        reason, message = error.reason, error.because
    except MemoryError:
        reason, message = "OutOfMemory", "optimising takes more memory than the pod has: raise spec.server.resources"
    made.unlink(missing_ok=True)
    return because(blank(task.kind, bundle), reason, message)


def _inspect(made: Path, task: Task) -> None:
    from homeostat.server.life import gate

    try:
        gate.inspect(made, task.max_bytes)
    except ArtifactError as error:
        why = f"{task.kind} makes a file that may not be served: {error.because} ({error.reason})"
        raise ArtifactError("OptimizationFailed", why) from error


def _measured(task: Task, bundle: Bundle, made: Path) -> Optimization:
    from homeostat.server.inference.model import load
    from homeostat.server.optimizing.comparison import compared, speedup

    original = load(bundle.model, bundle.signature, 1)
    optimized = load(made, bundle.signature, 1)
    difference, labels, rows = compared(original, optimized, bundle.baseline)
    known = Optimization.model_validate_json(task.known) if task.known else None
    update: dict[str, Any] = {
        "digest": sha256(made),
        "size": made.stat().st_size,
        "rows": rows,
        "difference": _rounded(difference),
        "labels": labels,
        "speedup": known.speedup if known else _rounded(speedup(original, optimized, bundle.baseline)),
    }
    found = blank(task.kind, bundle).model_copy(update=update)
    if original.batched and not optimized.batched:
        message = f"with {task.kind} the answer for a row changes with the rows that share its batch"
        return because(found, "BatchDependent", message)
    return found


def _rounded(number: float) -> float | None:
    """To six figures; None for what JSON cannot say: infinite, or not a number."""
    return float(f"{number:.6g}") if number - number == 0 else None


if __name__ == "__main__":
    sys.exit(main(Task(**json.loads(sys.argv[1]))))
