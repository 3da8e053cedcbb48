"""`python mutants.py FOLDER SEED COUNT`: damaged copies of FOLDER/model.onnx, each checked as a pod does, in forked children.

Writes how many there were of each outcome as JSON. A child that dies takes one mutant with it; the next child goes on.
"""

import json
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import onnx  # noqa: F401  imported once, before the forks
import onnxruntime  # noqa: F401

from homeostat.errors import ArtifactError
from homeostat.server.life import check, gate

SECONDS = 5.0  # for one mutant
MEMORY = 512 << 20


def mutant(content: bytes, seed: int) -> bytes:
    """The same for the same seed: bytes changed, cut, doubled, put in, or the end missing."""
    draw, made = random.Random(seed), bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at, kind = draw.randrange(len(made)), draw.randrange(8)
        if kind < 4:
            made[at] = draw.randrange(256)
        elif kind == 4:
            made[at] ^= 1 << draw.randrange(8)
        elif kind == 5:
            del made[at : at + draw.randrange(1, 9)]
        elif kind == 6:
            made[at:at] = draw.randbytes(draw.randrange(1, 9))
        else:
            made[at:at] = made[at : at + draw.randrange(1, 65)]
        if len(made) < 2:
            break
    return bytes(made[: draw.randrange(len(made))] if draw.random() < 0.05 else made)


def outcome(folder: Path) -> str:
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        check.inspect_and_run(folder, 1 << 30)
    except ArtifactError as error:
        return error.reason if error.because else "silent"
    except MemoryError:
        return "OutOfMemory"
    except Exception as error:  # noqa: BLE001  the check's process would end with a trace
        return f"raises:{type(error).__name__}:{str(error)[:60].replace(' ', '_')}"
    return "loads"


def batch(folder: Path, content: bytes, seeds: list[int], out: int) -> None:
    """In a child: one line for each mutant."""
    check.confine(MEMORY, 600.0)
    with Path(os.devnull).open("w") as silent:
        os.dup2(silent.fileno(), 2)
    for seed in seeds:
        (folder / "model.onnx").write_bytes(mutant(content, seed))
        os.write(out, f"{outcome(folder)}\n".encode())


def main(folder: Path, first: int, count: int) -> None:
    content = (folder / "model.onnx").read_bytes()
    gate._operators()
    found: Counter[str] = Counter()
    seeds = list(range(first, first + count))
    while seeds:
        with tempfile.TemporaryFile() as lines:
            child = os.fork()
            if not child:
                try:
                    batch(folder, content, seeds[:100], lines.fileno())
                finally:
                    os._exit(0)
            _, status = os.waitpid(child, 0)
            lines.seek(0)
            told = lines.read().decode().split()
        found.update(told)
        done = len(told)
        if done < len(seeds[:100]):
            found[f"ended by {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else "ended"] += 1
            done += 1
        seeds = seeds[done:]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
