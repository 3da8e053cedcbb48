"""The OCI client against a real registry."""

import os
from pathlib import Path

import pytest

from homeostat.artifacts import cli
from homeostat.artifacts.oci import Client
from homeostat.errors import ArtifactError
from training.registry import Registry, free_port


def write(folder: Path, **files: bytes) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    out = {}
    for name, content in files.items():
        (folder / f"{name}.json").write_bytes(content)
        out[f"{name}.json"] = folder / f"{name}.json"
    return out


def test_what_is_pushed_comes_back_and_the_same_files_give_the_same_digest(registry: Registry, tmp_path: Path) -> None:
    client = Client()
    files = write(tmp_path / "in", a=b"{}", b=os.urandom(3 << 20), empty=b"")
    digest = client.push(files, registry.uri("ns/round:one"), "application/vnd.test")
    assert client.push(files, registry.uri("ns/round:two"), "application/vnd.test") == digest
    assert client.resolve(registry.uri("ns/round:one")) == digest
    pulled = client.pull(registry.uri(f"ns/round@{digest}"), tmp_path / "out")
    assert pulled.digest == digest
    assert pulled.artifact_type == "application/vnd.test"
    assert {n: p.read_bytes() for n, p in pulled.files.items()} == {n: p.read_bytes() for n, p in files.items()}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(files)


def test_a_tag_moves_and_its_old_digest_stays(registry: Registry, tmp_path: Path) -> None:
    client = Client()
    old = client.push(write(tmp_path, a=b"1"), registry.uri("ns/moves:latest"), "t/t")
    new = client.push(write(tmp_path, a=b"2"), registry.uri("ns/moves:latest"), "t/t")
    assert old != new
    assert client.resolve(registry.uri("ns/moves")) == new
    assert client.pull(registry.uri(f"ns/moves@{old}"), tmp_path / "old").files["a.json"].read_bytes() == b"1"


def test_a_missing_tag_names_the_command_that_pushes(registry: Registry) -> None:
    with pytest.raises(ArtifactError, match="homeostat push") as raised:
        Client().resolve(registry.uri("ns/nothing:latest"))
    assert (raised.value.reason, raised.value.permanent) == ("ArtifactNotFound", True)


def test_a_damaged_blob_is_refused_and_leaves_no_file(registry: Registry, tmp_path: Path) -> None:
    client = Client()
    content = os.urandom(1000)
    client.push(write(tmp_path / "in", a=content), registry.uri("ns/damaged:v1"), "t/t")
    import hashlib

    registry.blob("sha256:" + hashlib.sha256(content).hexdigest()).write_bytes(b"x" * 1000)
    with pytest.raises(ArtifactError) as raised:
        client.pull(registry.uri("ns/damaged:v1"), tmp_path / "out")
    assert raised.value.reason == "DigestMismatch"
    assert list((tmp_path / "out").iterdir()) == []


def test_an_artifact_above_the_bound_is_not_begun(registry: Registry, tmp_path: Path) -> None:
    Client().push(write(tmp_path / "in", a=b"x" * 2000), registry.uri("ns/large:v1"), "t/t")
    with pytest.raises(ArtifactError) as raised:
        Client(max_bytes=1999).pull(registry.uri("ns/large:v1"), tmp_path / "out")
    assert raised.value.reason == "TooLarge"


def test_a_registry_that_is_down_is_worth_another_try(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not answer") as raised:
        Client().resolve(f"oci://127.0.0.1:{free_port()}/ns/name:v1")
    assert (raised.value.reason, raised.value.permanent) == ("RegistryUnreachable", False)


def test_a_registry_that_comes_back_is_waited_for(registry: Registry, tmp_path: Path) -> None:
    own = Registry(tmp_path / "registry")
    own.start()
    try:
        digest = Client().push(write(tmp_path / "in", a=b"1"), own.uri("ns/x:v1"), "t/t")
        own.stop()
        own.start()
        assert Client().resolve(own.uri("ns/x:v1")) == digest
    finally:
        own.stop()


def test_the_commands_push_and_pull(registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    assert cli.run(["push", str(tmp_path / "rows.csv"), registry.uri("ns/rows:latest")]) == 0
    said = capsys.readouterr().out
    assert "pushed 1 file (8 B)" in said
    address = said.splitlines()[-1]
    assert cli.run(["pull", f"oci://{address}", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/rows.csv").read_text() == "a,b\n1,2\n"
    assert cli.run(["pull", registry.uri("ns/none:latest"), str(tmp_path / "out")]) == 1
    assert "ArtifactNotFound" in capsys.readouterr().err
    assert cli.run(["push", str(tmp_path / "gone.csv"), registry.uri("ns/rows:latest")]) == 1
    assert "gone.csv" in capsys.readouterr().err
