"""What `homeostat serve` makes of its flags and of the platform that runs it."""

from pathlib import Path

import pytest

from homeostat.server import cli
from homeostat.server.settings import Settings


def settings(*argv: str, **environment: str) -> Settings:
    return cli.chosen(list(argv), environment)[0]


def test_a_pod_listens_on_all_addresses(tmp_path: Path) -> None:
    found = settings("--model-dir", str(tmp_path), "--name", "flights", "--version", "v7", "--workers", "2")
    assert (found.host, found.port, found.name, found.version) == ("0.0.0.0", 8080, "flights", "v7")
    assert (found.workers, found.announce, found.slots) == (2, False, 2)


def test_a_model_by_itself_stays_on_loopback_unless_told(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.touch()
    found = settings(str(model))
    assert (found.model_dir, found.host, found.announce) == (str(model), "127.0.0.1", True)
    assert (found.name, found.version) == ("model", "v1")
    assert settings(str(model), "--host", "0.0.0.0").host == "0.0.0.0"
    assert settings("oci://localhost:5000/flights:v7").model_dir == "oci://localhost:5000/flights:v7"


def test_sagemaker_says_where_model_and_port_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "SAGEMAKER_MODEL", str(tmp_path))
    found = settings(SAGEMAKER_BIND_TO_PORT="9000")
    assert (found.model_dir, found.host, found.port, found.name) == (str(tmp_path), "0.0.0.0", 9000, "model")
    assert settings().port == 8080
    assert settings("--port", "8000", SAGEMAKER_BIND_TO_PORT="9000").port == 8000
    with pytest.raises(ValueError, match="SAGEMAKER_BIND_TO_PORT is 'x'"):
        settings(SAGEMAKER_BIND_TO_PORT="x")


def test_containers_that_share_a_host_on_sagemaker_keep_to_their_own_ports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "SAGEMAKER_MODEL", str(tmp_path))
    found = settings(SAGEMAKER_BIND_TO_PORT="9001", SAGEMAKER_SAFE_PORT_RANGE="9000-9100")
    assert (found.port, found.grpc_port, found.admin_port) == (9001, 9000, 9002)
    found = settings()
    assert (found.port, found.grpc_port, found.admin_port) == (8080, 8081, 8082)
    with pytest.raises(ValueError, match="must be FIRST-LAST with three ports or more"):
        settings(SAGEMAKER_SAFE_PORT_RANGE="9000-9001")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ((), "a model is needed"),
        (("a", "--model-dir", "b"), "give the model once"),
        (("--model-dir", "b", "--tls-cert", "c"), "belong together"),
        (("--model-dir", "b", "--tls-admin"), "need --tls-cert"),
        (("--model-dir", "b", "--no-stats", "--stats-sample", "0.1"), "leave one of them out"),
    ],
)
def test_wrong_use_names_the_fix(
    argv: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "SAGEMAKER_MODEL", str(tmp_path / "none"))
    with pytest.raises(ValueError, match=says):
        settings(*argv)


@pytest.mark.parametrize("share", ["0", "-0.1", "1.5", "nan", "some"])
def test_statistics_are_sampled_by_a_share_above_zero(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert settings("m.onnx", "--stats-sample", "0.25").stats_sample == 0.25
    assert settings("m.onnx").stats_sample == 1.0
    with pytest.raises(SystemExit):
        settings("m.onnx", "--stats-sample", share)
    assert "--stats-sample" in capsys.readouterr().err
