"""What tests of the cluster stand on: `make` brings it there, once a session and only as far as it is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AS_IS = "HOMEOSTAT_TESTS_AS_IS"  # set it to use the cluster just as it is, for quick repetitions


@cache
def bring(target: str) -> None:
    """Run `make TARGET` unless the cluster is to be used as it is. Fails with its output."""
    if os.environ.get(AS_IS):
        return
    environment = {name: text for name, text in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    done = subprocess.run(
        ["make", "-s", target], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        raise AssertionError(f"make {target} failed: {done.stderr.strip() or done.stdout.strip()}")
