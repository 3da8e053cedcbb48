import pytest

from cluster.ground import bring


@pytest.fixture(scope="session", autouse=True)
def _up() -> None:
    bring("up")
