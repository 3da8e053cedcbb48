from collections.abc import Iterator

import pytest

from training.registry import Registry


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    served = Registry(tmp_path_factory.mktemp("registry"))
    served.start()
    yield served
    served.stop()
