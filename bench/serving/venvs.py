"""Environments of the rivals: one below .local/bench for each, made on first use from pinned versions, and kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.serving.places import KEPT, RIVALS
from deploy.local.progress import Problem, call, follow, step

# PyTriton's embedded stub needs the distribution's own Python: it breaks on a newer standard library
SYSTEM_PYTHON: Final = {"pytriton"}


def python(name: str) -> Path:
    """The interpreter of that environment. Raises Problem when it cannot be made."""
    folder, pins = KEPT / name, RIVALS / f"{name}.txt"
    found, stamp = folder / "bin" / "python", folder / "stamp"
    if stamp.exists() and stamp.read_text() == pins.read_text():
        return found
    with step(f"{name}: packages into .local/bench/{name} (the first time: a minute or two)") as current:
        log = KEPT / "logs" / f"{name}-install.log"
        fix = f"see {log}"
        shutil.rmtree(folder, ignore_errors=True)
        call([_base(name), "-m", "venv", folder], fix=fix)
        words = ["--disable-pip-version-check", "--no-input", "-r", pins]
        env = {key: value for key, value in os.environ.items() if key != "PIP_TARGET"}
        try:
            follow([found, "-m", "pip", "install", *map(str, words)], log, current.say, fix=fix, env=env)
        except Problem as problem:
            errors = [line for line in log.read_text(errors="replace").splitlines() if "ERROR" in line]
            last = errors[-1].partition("ERROR: ")[2] if errors else str(problem).splitlines()[0]
            raise Problem(f"the packages of {name} cannot be installed: {last[:300]}", fix) from problem
        stamp.write_text(pins.read_text())
    return found


def version(name: str, package: str) -> str:
    """The pinned version of a package."""
    for line in (RIVALS / f"{name}.txt").read_text().splitlines():
        if line.startswith(f"{package}=="):
            return line.split("==")[1]
    raise Problem(f"{package} is not pinned in rivals/{name}.txt", "pin it")


def _base(name: str) -> str:
    system = "/usr/bin/python3"
    if name in SYSTEM_PYTHON and Path(system).exists():
        has_venv = subprocess.run([system, "-c", "import ensurepip"], capture_output=True, check=False)
        if has_venv.returncode == 0:
            return system
    return sys.executable
