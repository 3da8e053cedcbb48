from collections.abc import Iterator

import pytest

from training.registry import Registry, binary


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    if binary() is None:
        pytest.skip("no registry program here: apt-get install docker-registry")
    served = Registry(tmp_path_factory.mktemp("registry"))
    served.start()
    yield served
    served.stop()
