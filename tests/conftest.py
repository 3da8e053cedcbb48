"""The tests run in two processes: those of the cluster one after the other, beside the others, file by file."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
ON_THE_CLUSTER = {"chart", "cluster", "local"}


def _on_the_cluster(item: pytest.Item) -> bool:
    return item.path.relative_to(HERE).parts[0] in ON_THE_CLUSTER


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares a cluster shares a process; so does what shares a file, for its fixtures."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group("cluster" if _on_the_cluster(item) else str(item.path)))
    items.sort(key=lambda item: not _on_the_cluster(item))
