"""Pythons for the clients of other servers, which pin what contradicts our own packages: one below .local/clients each.

They are made on first use from `clients/<name>.txt`, hash by hash, and kept until that file or our Python changes.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "clients"
KEPT = Path(__file__).resolve().parents[2] / ".local" / "clients"
SECONDS = 240  # for one script: a client's own imports take many on a busy machine
_PIP = ("install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-compile", "--no-deps")


def interpreter(name: str) -> Path:
    """The Python that has this client."""
    pins, folder = HERE / f"{name}.txt", KEPT / name
    wanted = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    stamp = folder / "stamp"
    if not stamp.exists() or stamp.read_text() != wanted:
        made = KEPT / f"{name}.{os.getpid()}"
        shutil.rmtree(made, ignore_errors=True)
        _run([sys.executable, "-m", "venv", "--without-pip", str(made)])
        python = str(made / "bin" / "python")
        _run([sys.executable, "-m", "pip", "--python", python, *_PIP, "--require-hashes", "-r", str(pins)])
        (made / "stamp").write_text(wanted)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    return folder / "bin" / "python"


def _run(command: list[str]) -> None:
    env = {key: value for key, value in os.environ.items() if key != "PIP_TARGET"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-2000:]}"


def answers(client: str, script: str, **given: Any) -> Any:
    """What `clients/<script>.py` says, run by the Python of that client."""
    command = [str(interpreter(client)), "-W", "ignore", str(HERE / f"{script}.py"), json.dumps(given)]
    env = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])
