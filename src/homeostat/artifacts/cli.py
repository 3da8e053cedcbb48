"""`homeostat push FILE… URI` and `homeostat pull URI FOLDER`."""

import argparse
import sys
from pathlib import Path

from homeostat.api.wire.bundle import ARTIFACT_TYPE, DATA_ARTIFACT_TYPE, MODEL_FILE
from homeostat.artifacts.address import parse
from homeostat.artifacts.oci import Client
from homeostat.errors import ArtifactError


def run(argv: list[str]) -> int:
    """Run `push` or `pull` (argv[0]). Returns 0, 1 when the registry or a file says no, 2 for wrong usage."""
    options = _parser().parse_args(argv)
    client = Client(tuple(options.plain_http))
    try:
        return _push(client, options) if options.command == "push" else _pull(client, options)
    except ArtifactError as error:
        sys.stderr.write(f"homeostat {options.command}: {error.because} ({error.reason})\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="homeostat", description="Files as artifacts in an OCI registry.")
    commands = parser.add_subparsers(dest="command", required=True)
    push = commands.add_parser("push", help="push files as one artifact, and say its digest")
    push.add_argument("files", nargs="+", type=Path, metavar="FILE")
    push.add_argument("uri", metavar="URI", help="oci://host/name:tag")
    push.add_argument(
        "--type", default="", help="artifact type; default: by the files' names (data, or a model bundle)"
    )
    pull = commands.add_parser("pull", help="pull an artifact's files into a folder")
    pull.add_argument("uri", metavar="URI", help="oci://host/name:tag or …@sha256:…")
    pull.add_argument("folder", type=Path, metavar="FOLDER")
    for command in (push, pull):
        command.add_argument(
            "--plain-http",
            action="append",
            default=[],
            metavar="HOST",
            help="this host (host:port) speaks HTTP without TLS; may be repeated",
        )
    return parser


def _push(client: Client, options: argparse.Namespace) -> int:
    files = {path.name: path for path in options.files}
    if len(files) != len(options.files):
        raise ArtifactError("NamesCollide", "two files have the same name: an artifact has one folder; rename one")
    kind = options.type or (ARTIFACT_TYPE if MODEL_FILE in files else DATA_ARTIFACT_TYPE)
    digest = client.push(files, options.uri, kind)
    address = parse(options.uri)
    size = sum(path.stat().st_size for path in files.values())
    sys.stdout.write(
        f"pushed {len(files)} file{'s'[: len(files) > 1]} ({_human(size)}) to {address}\n"
        f"{address.host}/{address.repository}@{digest}\n"
    )
    return 0


def _pull(client: Client, options: argparse.Namespace) -> int:
    pulled = client.pull(options.uri, options.folder)
    for name, path in pulled.files.items():
        sys.stdout.write(f"{name}  {_human(path.stat().st_size)}\n")
    sys.stdout.write(f"pulled {pulled.digest} to {options.folder}\n")
    return 0


def _human(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
