"""The project's own Python environment, .venv: the locked packages with their hashes, and this checkout. Standard library only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - this file is what tells people with an older Python
    sys.exit(
        "error: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "\n"
        "  fix: install one and name it: make PYTHON3=python3.12 …"
    )

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from deploy.local.progress import Problem, call, follow, step  # noqa: E402 - after the version is checked

FOLDER = ROOT / ".venv"
PYTHON = FOLDER / "bin" / "python"
LOG = ROOT / ".local" / "environment.log"
SCRIPT = """#!{python}
import sys

from homeostat.__main__ import main

sys.exit(main())
"""


def main() -> int:
    """Make it or bring it up to date. Returns the exit code."""
    try:
        _interpreter()
        _packages()
        _checkout()
    except Problem as problem:
        print(f"error: {problem}\n  fix: {problem.fix}", file=sys.stderr)
        return 1
    (FOLDER / "stamp").touch()
    return 0


def _interpreter() -> None:
    if (
        PYTHON.exists()
        and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    ):
        return
    with step(f"Python {sys.version.split()[0]} in .venv"):
        name = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        call(
            [sys.executable, "-m", "venv", "--clear", FOLDER],
            fix=f"install what `python3 -m venv` needs (Debian: apt-get install python3-venv, or {name})",
        )


def _packages() -> None:
    words: list[str | Path] = [
        "--disable-pip-version-check",
        "--require-hashes",
        "-r",
        ROOT / "requirements" / "dev.txt",
    ]
    with step("Python packages (the first time: a minute)") as current:
        follow(
            [PYTHON, "-m", "pip", "install", *words],
            LOG,
            lambda line: None if line.startswith("Requirement already") else current.say(line),
            fix="see that pip reaches its package index (pip's own settings: PIP_INDEX_URL, PIP_CERT), then run this again",
            env={name: value for name, value in os.environ.items() if name != "PIP_TARGET"},
        )


def _checkout() -> None:
    """This checkout's sources, as an editable install would: a path, and the command `homeostat`."""
    where = call([PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], fix="remove .venv").strip()
    Path(where, "homeostat.pth").write_text(f"{ROOT / 'src'}\n")
    script = FOLDER / "bin" / "homeostat"
    script.write_text(SCRIPT.format(python=PYTHON))
    script.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
