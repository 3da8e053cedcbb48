"""`make lint`: every check that needs no cluster and runs no test. One line a check; the output of those that fail."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "deploy")]

import generated  # noqa: E402 the folders are put on the path above
import protos  # noqa: E402
import sizes  # noqa: E402

TOOLS = {
    "ruff": ["ruff", "check", "--quiet", "."],
    "format": ["ruff", "format", "--check", "--quiet", "."],
    "types": ["mypy"],
    "layers": ["lint-imports"],
}
OWN: dict[str, Callable[[Path], list[str]]] = {
    "sizes": sizes.problems,
    "crds": generated.problems,
    "protos": protos.problems,
}


def main() -> int:
    """Run all; the number of checks that failed is the exit code."""
    failed = 0
    for name, words in TOOLS.items():
        began = time.monotonic()
        tool = Path(sys.executable).parent / words[0]
        done = subprocess.run([tool, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
        failed += _report(name, began, "" if done.returncode == 0 else done.stdout + done.stderr)
    for name, check in OWN.items():
        began = time.monotonic()
        failed += _report(name, began, "\n".join(check(ROOT)))
    return failed


def _report(name: str, began: float, wrong: str) -> int:
    print(f"{'✗' if wrong else '✓'} {name} ({time.monotonic() - began:.1f} s)", flush=True)
    if wrong:
        print(wrong, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
