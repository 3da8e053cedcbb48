"""All tests in two processes: those of the cluster, which wait most of the time, and beside them the others. Standard library only."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
ON_THE_CLUSTER = ("chart", "cluster", "local")
NO_TESTS = 5  # pytest's exit code when all were deselected


def main(more: list[str]) -> int:
    """Run them; `more`: further words for pytest. Returns 0 when all passed."""
    folders = sorted({path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")})
    others = [name for name in folders if name not in ON_THE_CLUSTER and (TESTS / name).is_dir()]
    with tempfile.TemporaryFile() as said:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        beside = subprocess.Popen(_command(others, more), stdout=said, stderr=subprocess.STDOUT, env=environment)
        print(f"tests on the cluster; beside them, shown at the end: {', '.join(others)}", flush=True)
        try:
            first = subprocess.run(_command(list(ON_THE_CLUSTER), more), check=False).returncode
            second = beside.wait()
        finally:
            if beside.poll() is None:
                beside.terminate()
                beside.wait()
            said.seek(0)
            sys.stdout.write(said.read().decode("utf-8", "replace"))
    failed = [code for code in (first, second) if code not in {0, NO_TESTS}]
    print(f"\n{'some tests failed' if failed else 'all tests passed'}")
    return failed[0] if failed else 0


def _command(folders: list[str], more: list[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", *(str(TESTS / name) for name in folders), "--durations", "15", *more]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
