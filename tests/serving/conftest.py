from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import models
from serving.pod import Pod


@pytest.fixture(scope="session")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.flights(tmp_path_factory.mktemp("flights") / "model")


@pytest.fixture(scope="session")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.numbers_only(tmp_path_factory.mktemp("numbers") / "model", 4)


@pytest.fixture(scope="module")
def pod(flights: Path) -> Iterator[Pod]:
    with Pod(flights) as running:
        yield running.ready()
