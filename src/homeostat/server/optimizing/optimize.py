"""`homeostat optimize`: the init container after `fetch` that makes the model cheaper, once per digest, if that changes little.

The result lies beside the bundle in its registry, under a tag of the model's digest, the way, the runtime and the CPU.
A pod that finds it there compares it again, with its own tolerance, before it is served; only the making and the timing
are spared. A registry that refuses pushes is no error: each pod then makes its own, of the same bytes.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from pydantic import ValidationError

from homeostat.api.wire.optimization import (
    OPTIMIZATION_ARTIFACT_TYPE,
    OPTIMIZATION_FILE,
    OPTIMIZED_FILE,
    Kind,
    Optimization,
)
from homeostat.api.wire.run import PERMANENT_EXIT
from homeostat.artifacts.address import Address, parse
from homeostat.artifacts.oci import Client
from homeostat.errors import ArtifactError
from homeostat.server.life.bundle import Bundle, read_bundle
from homeostat.server.life.check import memory_for
from homeostat.server.life.fetch import terminate
from homeostat.server.life.room import read_room
from homeostat.server.optimizing.making import Task
from homeostat.server.optimizing.optimized import because, blank, judged, sentence, sha256, to_text
from homeostat.server.settings import Settings

SECONDS: Final = 300.0
DEFAULTS: Final = Settings("", "", "")
BASE_BYTES: Final = 192 << 20  # what libraries take in the child


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked. uri: of the bundle, beside which the result is kept; empty: nowhere."""

    place: Path
    kind: Kind
    tolerance: float
    required: bool
    uri: str = ""
    plain_http: tuple[str, ...] = ()
    max_bytes: int = DEFAULTS.max_model_bytes
    seconds: float = SECONDS


def run(argv: list[str]) -> int:
    """Optimise one model's folder. Returns 0, or with `--required` 42 when the optimised model is not served."""
    options = _parser().parse_args(argv)
    wish = Wish(
        options.model_dir,
        options.type,
        options.tolerance,
        options.required,
        options.share_at,
        tuple(options.plain_http),
        options.max_model_bytes,
        options.seconds,
    )
    try:
        found = optimize(wish)
    except ArtifactError as error:
        terminate(error.reason, error.because)
        sys.stderr.write(f"homeostat optimize: {error.because} ({error.reason})\n")
        return PERMANENT_EXIT
    sys.stdout.write(sentence(found) + "\n")
    if wish.required and not found.used:
        terminate("OptimizationRefused", f"{found.message} ({found.reason})")
        return PERMANENT_EXIT
    terminate(text=to_text(found))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="homeostat optimize", description="Make a model cheaper, if it changes little."
    )
    parser.add_argument("--model-dir", required=True, type=Path, help="folder with model.onnx and what came with it")
    parser.add_argument("--type", required=True, choices=get_args(Kind), help="how")
    parser.add_argument("--tolerance", type=_share, default=0.01, help="largest change of scores (default %(default)s)")
    parser.add_argument("--required", action="store_true", help="fail when the optimised model may not be served")
    parser.add_argument(
        "--share-at", default="", metavar="URI", help="the bundle's oci://…; the result is kept beside it"
    )
    parser.add_argument("--plain-http", action="append", default=[], metavar="HOST", help="this host speaks HTTP")
    parser.add_argument(
        "--max-model-bytes", type=int, default=DEFAULTS.max_model_bytes, help="size that is still loaded"
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time for all of it (default %(default)s)")
    return parser


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} must be between 0 and 1")
    return number


def optimize(wish: Wish) -> Optimization:
    """Leave `optimization.json` in the folder, and `model.optimized.onnx` only if it is to be served.

    Raises ArtifactError of `read_bundle`; what fails later is a reason to serve the original.
    """
    bundle = read_bundle(wish.place, wish.max_bytes)
    folder = bundle.model.parent
    for name in (OPTIMIZATION_FILE, OPTIMIZED_FILE):  # of before, or of a stranger
        (folder / name).unlink(missing_ok=True)
    start = blank(wish.kind, bundle)
    shared = Shared(wish, start)
    known = shared.pull(folder)
    found = known if known is not None and not known.digest else _in_child(wish, bundle, start, known)
    found = judged(found, wish.tolerance, required=wish.required)
    if known is None:
        shared.push(found, folder)
    if not found.used:
        (folder / OPTIMIZED_FILE).unlink(missing_ok=True)
    (folder / OPTIMIZATION_FILE).write_text(to_text(found))
    return found


def _in_child(wish: Wish, bundle: Bundle, start: Optimization, known: Optimization | None) -> Optimization:
    """What the limited child says; its end by force is a finding too."""
    memory = BASE_BYTES + memory_for(bundle.model, wish.max_bytes, read_room())
    text = known.model_dump_json() if known is not None else ""
    task = Task(str(wish.place), wish.kind, wish.max_bytes, memory, wish.seconds, text)
    command = [sys.executable, "-m", "homeostat.server.optimizing.making", task.to_text()]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=wish.seconds, check=False
        )
        return Optimization.model_validate_json(done.stdout)
    except subprocess.TimeoutExpired:
        why = f"{wish.kind} took over {wish.seconds:g} s (--seconds)"
        return because(start, "OptimizationTimeout", why)
    except ValidationError:
        why = f"{wish.kind} ended its process with code {done.returncode}; it may use {memory >> 20} MiB"
        return because(start, "OptimizationFailed", f"{why} (spec.server.resources)")


class Shared:
    """The result in the bundle's registry."""

    def __init__(self, wish: Wish, start: Optimization) -> None:
        self._start = start
        self._client = Client(wish.plain_http, max_bytes=wish.max_bytes)
        self._place = beside(wish.uri, start) if wish.uri else ""

    def pull(self, folder: Path) -> Optimization | None:
        """What another pod found, with its file in `folder`; None when there is nothing that fits."""
        if not self._place:
            return None
        with tempfile.TemporaryDirectory(dir=folder, prefix=".optimized-") as there:
            try:
                pulled = self._client.pull(self._place, Path(there))
                found = Optimization.model_validate_json(pulled.files[OPTIMIZATION_FILE].read_bytes())
                if self._fits(found, pulled.files.get(OPTIMIZED_FILE)):
                    if found.digest:
                        pulled.files[OPTIMIZED_FILE].replace(folder / OPTIMIZED_FILE)
                    sys.stdout.write(f"found {self._place}\n")
                    return found
                sys.stderr.write(f"{self._place} is not of this model: it is made anew\n")
            except ArtifactError as error:
                if error.reason != "ArtifactNotFound":
                    self._place, place = "", self._place
                    sys.stderr.write(
                        f"each pod makes its own, for {place} cannot be read: {error.because} ({error.reason})\n"
                    )
            except (ValidationError, KeyError, OSError) as error:
                sys.stderr.write(f"{self._place} cannot be read: {str(error)[:200]}\n")
        return None

    def _fits(self, found: Optimization, file: Path | None) -> bool:
        same = ("type", "original", "runtime", "machine")
        if any(getattr(found, name) != getattr(self._start, name) for name in same):
            return False
        return not found.digest or (file is not None and sha256(file) == found.digest)

    def push(self, found: Optimization, folder: Path) -> None:
        """Keep it for others. What may pass by itself (time, memory) is not kept."""
        lasting = found.digest or found.reason == "NothingToOptimize"
        if not self._place or not lasting:
            return
        neutral = found if not found.digest else found.model_copy(update={"used": False, **_unjudged(found)})
        record = folder / f".{OPTIMIZATION_FILE}"
        record.write_text(to_text(neutral))
        files = {OPTIMIZATION_FILE: record} | ({OPTIMIZED_FILE: folder / OPTIMIZED_FILE} if found.digest else {})
        try:
            self._client.push(files, self._place, OPTIMIZATION_ARTIFACT_TYPE)
            sys.stdout.write(f"kept as {self._place}\n")
        except ArtifactError as error:
            sys.stderr.write(
                f"{self._place} cannot be pushed, so each pod makes its own: {error.because} ({error.reason})\n"
            )
        finally:
            record.unlink(missing_ok=True)


def _unjudged(found: Optimization) -> dict[str, str]:
    """The tolerance is each deployment's own; only what holds for all is kept."""
    kept = found.reason == "BatchDependent"
    return {"reason": found.reason if kept else "", "message": found.message if kept else ""}


def beside(uri: str, start: Optimization) -> str:
    """Where the result of this model, way, runtime and CPU is kept. Raises ArtifactError `AddressInvalid`."""
    there = parse(uri)
    cpu = hashlib.sha256(start.machine.encode()).hexdigest()[:8]
    model = start.original.removeprefix("sha256:")[:12]
    tag = f"sha256-{model}.{start.type.lower()}.ort{start.runtime}.{cpu}"
    return str(Address(there.host, there.repository, tag))
