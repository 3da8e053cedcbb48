"""`homeostat fetch`: the init container that brings the model. What does not fit its digest is never left in place."""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from homeostat.api.wire.bundle import MANIFEST_FILE, MODEL_FILE, Manifest
from homeostat.api.wire.optimization import OPTIMIZATION_FILE, OPTIMIZED_FILE
from homeostat.api.wire.run import PERMANENT_EXIT
from homeostat.artifacts.oci import Client
from homeostat.errors import ArtifactError

TERMINATION_LOG: Final = "/dev/termination-log"
MAX_MESSAGE: Final = 1500


def run(argv: list[str]) -> int:
    """Fetch one bundle. Returns 0, 42 when trying again cannot help, else 1; the termination message says why."""
    parser = argparse.ArgumentParser(prog="homeostat fetch", description="Fetch a model bundle into a folder.")
    parser.add_argument("--uri", required=True, help="oci://host/name@sha256:… or :tag")
    parser.add_argument("--digest", default="", help="digest of model.onnx; checked when given")
    parser.add_argument("--to", required=True, type=Path, help="folder for the files")
    parser.add_argument("--plain-http", action="append", default=[], metavar="HOST", help="this host speaks HTTP")
    options = parser.parse_args(argv)
    try:
        digest = fetch(options.uri, options.digest, options.to, tuple(options.plain_http))
    except ArtifactError as error:
        terminate(error.reason, error.because)
        sys.stderr.write(f"homeostat fetch: {error.because} ({error.reason})\n")
        return PERMANENT_EXIT if error.permanent else 1
    sys.stdout.write(f"fetched {options.uri} to {options.to}: {MODEL_FILE} has digest {digest}\n")
    return 0


def fetch(uri: str, digest: str, to: Path, plain_http: tuple[str, ...]) -> str:
    """Bring the bundle to `to`; returns the digest of `model.onnx`. Raises ArtifactError, and then removes the model."""
    pulled = Client(plain_http).pull(uri, to, untitled=MODEL_FILE)
    model = _named_model(pulled.files, to, uri)
    found = _sha256(model)
    try:
        _check_digest(digest, found, uri)
        _check_manifest(to, pulled.files)
    except ArtifactError:
        model.unlink(missing_ok=True)
        raise
    for name in {OPTIMIZATION_FILE, OPTIMIZED_FILE} & pulled.files.keys():
        sys.stderr.write(
            f"{name} of {uri} is left out: it is made where it is served, from the file that was checked\n"
        )
        (to / name).unlink()
    return found


def _check_digest(wanted: str, found: str, uri: str) -> None:
    if wanted and wanted != found:
        raise ArtifactError("DigestMismatch", f"{uri} holds {MODEL_FILE} with digest {found}, but {wanted} is wanted")


def _named_model(files: dict[str, Path], to: Path, uri: str) -> Path:
    """The model file; the only file of an artifact is the model, whatever its name."""
    if MODEL_FILE in files:
        return files[MODEL_FILE]
    if len(files) == 1:
        return next(iter(files.values())).replace(to / MODEL_FILE)
    raise ArtifactError("ModelMissing", f"{uri} has no {MODEL_FILE}, only {', '.join(sorted(files)[:10])}")


def _check_manifest(to: Path, files: dict[str, Path]) -> None:
    """Each file that `bundle.json` lists must be there with its digest."""
    if MANIFEST_FILE not in files:
        return
    try:
        manifest = Manifest.model_validate_json(files[MANIFEST_FILE].read_bytes())
    except ValidationError as error:
        raise ArtifactError("ManifestInvalid", f"{MANIFEST_FILE} is not valid: {error.errors()[0]['msg']}") from error
    for file in manifest.files:
        path = to / file.name
        if file.name not in files or _sha256(path) != file.digest:
            raise ArtifactError("DigestMismatch", f"{file.name} is not the file that {MANIFEST_FILE} names")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def terminate(reason: str = "", message: str = "", *, text: str = "") -> None:
    """Leave the container's last words: a reason with a sentence, or `text` as it is."""
    text = text or json.dumps({"reason": reason, "message": message[:MAX_MESSAGE]})
    try:
        Path(os.environ.get("TERMINATION_LOG", TERMINATION_LOG)).write_text(text)
    except OSError:
        return  # not in a pod: standard error says it
