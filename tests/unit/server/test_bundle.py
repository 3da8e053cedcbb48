"""What counts as a model in a folder."""

import hashlib
from pathlib import Path

import pytest

from homeostat.errors import ArtifactError
from homeostat.server.life.bundle import check_digest, read_bundle


def _file(path: Path, content: bytes = b"x") -> Path:
    path.write_bytes(content)
    return path


def test_model_onnx_wins_and_a_single_other_file_will_do(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"model\.onnx cannot be read"):
        read_bundle(tmp_path, 100)
    other = _file(tmp_path / "churn.onnx")
    assert read_bundle(tmp_path, 100).model == other
    _file(tmp_path / "late.onnx")
    with pytest.raises(ArtifactError, match=r"model\.onnx cannot be read"):
        read_bundle(tmp_path, 100)
    model = _file(tmp_path / "model.onnx")
    assert read_bundle(tmp_path, 100).model == model


def test_a_lone_file_does_not_take_its_neighbours_signature(tmp_path: Path) -> None:
    _file(tmp_path / "signature.json", b"this is not of churn.onnx")
    bundle = read_bundle(_file(tmp_path / "churn.onnx"), 100)
    assert (bundle.model.name, bundle.signature) == ("churn.onnx", None)
    with pytest.raises(ArtifactError, match=r"signature\.json is not valid"):
        read_bundle(_file(tmp_path / "model.onnx"), 100)


def test_a_digest_holds_or_is_named(tmp_path: Path) -> None:
    model = _file(tmp_path / "model.onnx")
    right = f"sha256:{hashlib.sha256(b'x').hexdigest()}"
    check_digest(model, right)
    with pytest.raises(ArtifactError, match=right) as caught:
        check_digest(model, "sha256:" + "0" * 64)
    assert caught.value.reason == "DigestMismatch"
