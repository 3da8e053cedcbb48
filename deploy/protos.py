"""Messages of the gRPC services from their .proto files: `.venv/bin/python deploy/protos.py` writes them anew."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

FOLDER = Path("src/homeostat/server/protos")
_DEFAULT, _OWN = "_descriptor_pool.Default()", "_POOL"
_IMPORT = "from google.protobuf import descriptor_pool as _descriptor_pool"


def generated(root: Path) -> dict[str, str]:
    """File name in FOLDER to its text."""
    from grpc_tools import protoc

    sources = sorted((root / FOLDER).glob("*.proto"))
    with tempfile.TemporaryDirectory() as made:
        words = ["protoc", f"-I{root / FOLDER}", f"--python_out={made}", f"--pyi_out={made}", *map(str, sources)]
        if protoc.main(words):
            raise SystemExit("protoc failed")
        return {file.name: _ours(file.read_text()) for file in sorted(Path(made).iterdir())}


def _ours(text: str) -> str:
    """The generated text with our pool of messages in place of the process's."""
    return text.replace(_DEFAULT, _OWN).replace(_IMPORT, "from homeostat.server.protos import POOL as _POOL")


def problems(root: Path) -> list[str]:
    """Generated files that are not what their sources say, one line each."""
    files = generated(root).items()
    stale = [name for name, text in files if not (f := root / FOLDER / name).is_file() or f.read_text() != text]
    return [f"{FOLDER}/{name} is stale: run: .venv/bin/python deploy/protos.py" for name in stale]


def main() -> int:
    """Write them."""
    root = Path(__file__).resolve().parents[1]
    for name, text in generated(root).items():
        (root / FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
