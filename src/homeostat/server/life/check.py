"""May a worker load this model? It is looked at, loaded and run once in a limited child process.

The child is a fork of a worker that has its libraries but no model yet: so a check costs neither their import nor their
memory again. It has no file descriptor but the one for its answer, and ends with its parent.
`python -m homeostat.server.life.check PLACE` does the same for a folder or file by hand; it prints `reason` and `message`.
"""

import ctypes
import json
import math
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

from homeostat.errors import ArtifactError
from homeostat.server.life.bundle import check_digest, read_bundle
from homeostat.server.life.room import Room, read_room
from homeostat.server.settings import Settings

PERMANENT: Final = 3
TOOLS_BYTES: Final = 64 << 20  # what the checker itself takes, beyond what the worker has by then
LEAST_BYTES: Final = 64 << 20
FREE_BYTES: Final = 1 << 30  # beside the files' size: what rows and the runtime's plans may take
COPIES: Final = 4  # of the files' bytes: as read, as parsed, as the runtime keeps them and as it packs them
POD_BYTES: Final = 192 << 20  # of a pod's limit: what its processes and libraries take before a model comes
_MAPPED: Final = 8 << 30  # libraries and weights that are mapped, not copied, take address space but no memory of ours
_WRITTEN: Final = 1 << 20  # bytes of a file that the child may write: there is none to write
_PARENT_ENDS: Final = 1  # PR_SET_PDEATHSIG
_SAID: Final = 1 << 16
_FIRST: Final = 3  # file descriptor after the standard ones
_NO_MEMORY: Final = ("bad_alloc", "failed to allocate", "allocate memory", "out of memory", "bad allocation")


def try_model(settings: Settings, room: Room) -> None:
    """Check and load the model in a child, within `settings.load_seconds`.

    Raises ArtifactError: what `bundle.read_bundle` and `gate.inspect` say, `LoadFailed`, `LoadTimeout`, `OutOfMemory`.
    """
    place, seconds = Path(settings.model_dir), settings.load_seconds
    model = read_bundle(place, settings.max_model_bytes).model
    memory = memory_for(model, settings.max_model_bytes, room)
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        _be_child(theirs, place, settings.max_model_bytes, memory, seconds)
    os.close(theirs)
    said = _hear(ours, seconds)
    os.close(ours)
    if said is None:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if said is None or code == -signal.SIGXCPU:
        raise _timeout(model.name, seconds)
    _judge(said, code, model.name, memory)


def memory_for(model: Path, max_bytes: int, room: Room) -> int:
    """Bytes that a model of this size may take: enough for it, but never so much that the pod is ended for it."""
    files = (f for f in model.parent.iterdir() if f.is_file() and not f.is_symlink())
    size = min(sum(f.stat().st_size for f in files), max_bytes)
    budget = FREE_BYTES + COPIES * size
    return budget if room.memory is None else min(budget, max(LEAST_BYTES, room.memory - POD_BYTES))


def _be_child(answer: int, place: Path, max_bytes: int, memory: int, seconds: float) -> NoReturn:
    """The child's whole life. What it cannot say in words, its exit code says."""
    code = 1
    try:
        os.closerange(_FIRST, answer)
        os.closerange(answer + 1, 1 << 16)
        confine(_writable() + TOOLS_BYTES + memory, seconds)
        code = outcome(place, max_bytes, memory, answer)
    finally:
        os._exit(code)


def outcome(place: Path, max_bytes: int, memory: int, answer: int) -> int:
    """Inspect, load and run; the exit code. Reason and message go to `answer` as JSON."""
    try:
        inspect_and_run(place, max_bytes)
    except ArtifactError as error:
        reason, message = error.reason, error.because
    except MemoryError:
        reason, message = "LoadFailed", _NO_MEMORY[0]
    else:
        return 0
    if reason == "LoadFailed" and any(words in message.lower() for words in _NO_MEMORY):
        short = _out_of_memory(place.name, memory)
        reason, message = short.reason, short.because
    os.write(answer, json.dumps({"reason": reason, "message": message}).encode()[:_SAID])
    return PERMANENT


def inspect_and_run(place: Path, max_bytes: int) -> None:
    """Look at the file, then load it as a worker does and run it on made-up rows. Raises ArtifactError."""
    from homeostat.server.inference.model import load
    from homeostat.server.life import gate

    bundle = read_bundle(place, max_bytes)
    if bundle.optimization is not None and bundle.optimization.used:
        check_digest(bundle.served, bundle.optimization.digest)
    gate.inspect(bundle.served, max_bytes)
    try:
        load(bundle.served, bundle.signature, 1)
    except ArtifactError:
        raise
    except Exception as error:  # what a strange model makes of the code that runs it is the model's fault
        raise ArtifactError(
            "LoadFailed", f"{bundle.model.name} cannot be served: {type(error).__name__}: {str(error)[:300]}"
        ) from error


def confine(memory: int, seconds: float, written: int = _WRITTEN) -> None:
    """Give up what a check does not need: memory, time, core dumps, files, a life after its parent's.

    written: bytes that a file may get.
    """
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, written),
        (resource.RLIMIT_CPU, math.ceil(seconds) + 1),
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_AS, memory + _MAPPED),
    ):
        hard = resource.getrlimit(kind)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))
    ctypes.CDLL(None).prctl(_PARENT_ENDS, signal.SIGKILL)


def _writable() -> int:
    """Bytes of writable memory that this process has, as RLIMIT_DATA counts them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) << 10
    return FREE_BYTES


def _hear(answer: int, seconds: float) -> bytes | None:
    """All that the child says until it ends; None when it takes too long."""
    end, said = time.monotonic() + seconds, b""
    poll = select.poll()
    poll.register(answer, select.POLLIN)
    while len(said) < _SAID:
        if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
            return None
        part = os.read(answer, _SAID)
        if not part:
            break
        said += part
    return said


def _judge(said: bytes, code: int, name: str, memory: int) -> None:
    """Raise what the child found."""
    if code == 0:
        return
    if code == PERMANENT:
        found = json.loads(said)
        raise ArtifactError(found["reason"], found["message"])
    if code == -signal.SIGKILL:
        raise _out_of_memory(name, memory)
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    raise ArtifactError(
        "LoadFailed", f"{name} ended the process that loads it ({how}): export it anew with a current exporter"
    )


def _timeout(name: str, seconds: float) -> ArtifactError:
    return ArtifactError(
        "LoadTimeout",
        f"checking {name}, loading it and running it once took over {seconds:g} s: make it smaller, or give it more "
        "time (--load-seconds)",
    )


def _out_of_memory(name: str, memory: int) -> ArtifactError:
    return ArtifactError(
        "OutOfMemory",
        f"loading {name} and running it once takes more than {memory >> 20} MiB: raise the pod's memory limit "
        "(spec.server.resources), or make the model smaller",
    )


def main(argv: list[str]) -> int:
    """Check one folder or file. Exit code 0 or 3. A second argument gives other settings as JSON."""
    settings = Settings.from_text(argv[1]) if argv[1:] else Settings(argv[0], "model", "v1")
    try:
        try_model(settings, read_room())
    except ArtifactError as error:
        sys.stdout.write(json.dumps({"reason": error.reason, "message": error.because}) + "\n")
        return PERMANENT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
