"""What people see while the local cluster works: steps with elapsed time, and problems that name their fix."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

QUIET_LINE_SECONDS = 20.0  # without a terminal a long step says that often that it is alive


class Problem(Exception):  # noqa: N818 - it reads as a sentence: raise Problem(what, fix)
    """Something a person has to mend; `fix` says how."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


class Step:
    """One visible step; `say` replaces what the step is doing right now."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.result = ""
        self.began = time.monotonic()
        self._live = sys.stdout.isatty()
        self._said = self.began

    @property
    def elapsed(self) -> str:
        seconds = time.monotonic() - self.began
        return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} m {int(seconds) % 60:02d} s"

    def say(self, text: str) -> None:
        """Show progress inside of the step: at once on a terminal, now and then in a log."""
        if self._live:
            print(f"\r\033[K  {self.title} … {self.elapsed}  {text}"[:160], end="", flush=True)
        elif time.monotonic() - self._said > QUIET_LINE_SECONDS:
            self._said = time.monotonic()
            print(f"  {self.title} … {self.elapsed}  {text}", flush=True)

    def close(self, mark: str) -> None:
        clear = "\r\033[K" if self._live else ""
        print(f"{clear}{mark} {self.title}{': ' + self.result if self.result else ''} ({self.elapsed})", flush=True)


@contextmanager
def step(title: str) -> Iterator[Step]:
    """A visible step: one line when it ends, with what came of it and how long it took."""
    current = Step(title)
    current.say("")
    try:
        yield current
    except BaseException:
        current.close("✗")
        raise
    current.close("✓")


def note(text: str) -> None:
    """One plain line."""
    print(f"  {text}", flush=True)


def wait_until(what: str, ready: Callable[[], bool], *, deadline: float, current: Step | None = None, fix: str) -> None:
    """Return as soon as `ready()`; raises Problem after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not ready():
        if time.monotonic() > end:
            raise Problem(f"{what} did not happen within {deadline:.0f} s", fix)
        if current:
            current.say(f"waiting: {what}")
        time.sleep(0.05)


def call(argv: Sequence[str | Path], *, fix: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a program to its end and return its standard output; raises Problem with the end of its error output."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=cwd, check=False)
    except FileNotFoundError:
        raise Problem(f"the program {words[0]} is missing", fix) from None
    if done.returncode:
        tail = "\n    ".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise Problem(f"`{' '.join(words)[:200]}` ended with {done.returncode}:\n    {tail}", fix)
    return done.stdout


def follow(
    argv: Sequence[str | Path],
    log: Path,
    said: Callable[[str], None],
    *,
    fix: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run a long program, hand every output line to `said`, keep all of it in `log`; raises Problem with its end."""
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("w") as kept:
        try:
            process = subprocess.Popen(
                [str(word) for word in argv],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=env,
                cwd=cwd,
            )
        except FileNotFoundError:
            raise Problem(f"the program {argv[0]} is missing", fix) from None
        try:
            assert process.stdout is not None
            for line in process.stdout:
                kept.write(f"{time.monotonic() - began:7.1f} {line}")
                said(line.strip())
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if code:
        tail = "\n    ".join(log.read_text(errors="replace").strip().splitlines()[-8:])
        raise Problem(f"`{' '.join(map(str, argv))[:200]}` ended with {code} (all of it: {log}):\n    {tail}", fix)
