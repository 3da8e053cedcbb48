"""Command line of the local cluster: `python3 deploy/local up|down|status|images`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - this file is what tells people with an older Python
    sys.exit(
        "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": run it as python3.11 deploy/local"
    )

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))


def main(argv: list[str]) -> int:
    """Run one command. Returns the exit code: 0 done, 1 a named problem, 2 wrong usage, 3 `status` of no healthy cluster."""
    from deploy.local import commands
    from deploy.local.progress import Problem

    parser = argparse.ArgumentParser(prog="deploy/local", description="A real Kubernetes on this machine.")
    parser.add_argument("command", choices=sorted(commands.COMMANDS), help="what to do")
    parser.add_argument("--rebuild", action="store_true", help="images: build even when nothing changed")
    arguments = parser.parse_args(argv)
    os.environ.pop("KUBECONFIG", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was begun is put away, as after Ctrl-C
    try:
        return commands.COMMANDS[arguments.command](CHECKOUT, rebuild=arguments.rebuild)
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        print(f"  fix: {problem.fix}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: run the same command again, it picks up what is half made", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
