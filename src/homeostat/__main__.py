"""`homeostat COMMAND`: one entry point; each command's module is imported only when it is called."""

import sys
from importlib import import_module
from typing import Final

from homeostat import __version__

# command: (module with `run(argv) -> exit code`, whether it wants the command's name, one line of help)
COMMANDS: Final = {
    "operator": ("homeostat.operator.app", False, "run the operator"),
    "serve": ("homeostat.server.cli", True, "serve an ONNX model"),
    "fetch": ("homeostat.server.cli", True, "fetch a model bundle into a folder"),
    "optimize": ("homeostat.server.optimizing.optimize", False, "make a fetched model cheaper, if that changes little"),
    "train": ("homeostat.trainer.cli", False, "one step of a training run: fetch, fit or publish"),
    "push": ("homeostat.artifacts.cli", True, "push files as an artifact to a registry"),
    "pull": ("homeostat.artifacts.cli", True, "pull an artifact's files from a registry"),
    "crds": ("homeostat.api.crds", False, "print the CustomResourceDefinitions"),
}


def usage() -> str:
    """The help text."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, _, text) in COMMANDS.items()]
    return "\n".join(["usage: homeostat COMMAND …", "", *lines, "", f"homeostat {__version__}"])


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns its exit code; 2 for wrong usage."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in {"-h", "--help", "help"}:
        sys.stdout.write(usage() + "\n")
        return 0 if words else 2
    if words[0] == "--version":
        sys.stdout.write(f"homeostat {__version__}\n")
        return 0
    if words[0] not in COMMANDS:
        sys.stderr.write(f"homeostat: there is no command {words[0]!r}\n\n{usage()}\n")
        return 2
    module, wants_name, _ = COMMANDS[words[0]]
    try:
        found = import_module(module)
    except ModuleNotFoundError as missing:
        sys.stderr.write(
            f"homeostat {words[0]}: {missing.name} is not installed: pip install 'homeostat[…]' with the extra that has it\n"
        )
        return 2
    result: int = found.run(words if wants_name else words[1:])
    return result


if __name__ == "__main__":
    sys.exit(main())
