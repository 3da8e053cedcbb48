import json

import pytest

from homeostat.artifacts import manifest
from homeostat.artifacts.address import Address, parse
from homeostat.artifacts.manifest import Blob
from homeostat.errors import ArtifactError

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("oci://host/a/b:v1", Address("host", "a/b", "v1")),
        ("oci://host:5000/a", Address("host:5000", "a")),
        (f"oci://h/a:t@{DIGEST}", Address("h", "a", "t", DIGEST)),
        (f"oci://10.0.0.1:5000/a__b-c.d@{DIGEST}", Address("10.0.0.1:5000", "a__b-c.d", "", DIGEST)),
    ],
)
def test_an_address_has_parts_and_reads_back(uri: str, expected: Address) -> None:
    assert parse(uri) == expected
    assert str(expected) == uri


@pytest.mark.parametrize(
    "uri",
    ["flights:latest", "oci://host", "oci:///a", "oci://h/A", "oci://h/a:-x", "oci://h/a@sha256:12", "oci://h/../a",
     "oci://h h/a", "oci://h/a\n", "oci://user@h/a", "https://h/a"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_an_example(uri: str) -> None:
    with pytest.raises(ArtifactError, match="oci://host/name:tag") as raised:
        parse(uri)
    assert raised.value.reason == "AddressInvalid"


@pytest.mark.parametrize(
    "title", ["../x", "/etc/passwd", "a/../../b", "a\\b", ".hidden", "", "a//b", "a\x00b", "x" * 300]
)
def test_titles_that_could_leave_the_folder_are_unsafe(title: str) -> None:
    assert not manifest.safe_title(title)
    if title:
        content = manifest.write((Blob(DIGEST, 1, title),), "t/t", {})
        with pytest.raises(ArtifactError) as raised:
            manifest.read(content, "oci://h/a")
        assert raised.value.reason == "TitleUnsafe"


def test_a_manifest_reads_back_and_has_stable_bytes() -> None:
    layers = (Blob(DIGEST, 3, "model.onnx"), Blob(DIGEST, 3, "deep/a.json"))
    content = manifest.write(layers, "t/t", {"b": "1", "a": "2"})
    assert content == manifest.write(layers, "t/t", {"a": "2", "b": "1"})
    read = manifest.read(content, "oci://h/a")
    assert (read.layers, read.artifact_type, read.annotations) == (layers, "t/t", {"a": "2", "b": "1"})


@pytest.mark.parametrize(
    "body",
    ["{", "[]", "{}", '{"layers": [1]}', '{"layers": [{"digest": "md5:1", "size": 1}]}',
     json.dumps({"layers": [{"digest": DIGEST, "size": -1}]}), json.dumps({"layers": [{"digest": DIGEST, "size": 1}] * 2})],
)  # fmt: skip
def test_a_broken_manifest_is_named(body: str) -> None:
    with pytest.raises(ArtifactError) as raised:
        manifest.read(body.encode(), "oci://h/a")
    assert raised.value.reason == "ManifestInvalid"
