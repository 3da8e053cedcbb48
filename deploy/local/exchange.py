"""The way of an image from buildah's storage into containerd: a registry on loopback, for the length of one command.

Both sides ask it for layers by digest, so only what is new moves; an archive would carry every layer of every image each time.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local import base, checks, components, containerd, layout, processes
from deploy.local.progress import call, wait_until

ADDRESS = "127.0.0.1"
PORT = 5127
LIMIT = 8 << 30  # bytes of old layers, then it starts anew
FIX = "free some disk space, then run `make images` again"


@contextmanager
def registry(binary: Path) -> Iterator[None]:
    """Run the registry on loopback; its storage lies in the cache folder."""
    folder = layout.cache() / "exchange"
    if folder.exists() and sum(file.stat().st_size for file in folder.rglob("data")) > LIMIT:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    processes.end(processes.find(processes.exchange), grace=0)  # of a run that was killed; the machine's lock is ours
    checks.port(ADDRESS, PORT, "the exchange of images")
    settings = folder / "config.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {folder}/storage}}}}\n"
        f"http: {{addr: '{ADDRESS}:{PORT}'}}\n"
    )
    with (folder / "log").open("wb") as log:
        environment = {"OTEL_TRACES_EXPORTER": "none", layout.MARK: "exchange"}
        process = subprocess.Popen([binary, "serve", settings], stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            wait_until(
                "the exchange registry answers",
                lambda: components.answers(f"http://{ADDRESS}:{PORT}/v2/"),
                deadline=20,
                fix=f"see {folder}/log",
            )
            yield
        finally:
            process.terminate()
            process.wait()


def move(local_name: str, names: list[str]) -> None:
    """Bring an image of buildah's storage into containerd under `names`."""
    passing = f"{ADDRESS}:{PORT}/{local_name.removeprefix('localhost/')}"
    call(
        [
            *base.buildah(),
            "push",
            "-q",
            "--tls-verify=false",
            "--disable-compression",
            local_name,
            f"docker://{passing}",
        ],
        fix=FIX,
    )
    containerd.ctr("images", "pull", "--plain-http", passing)
    for name in names:
        containerd.ctr("images", "tag", "--force", passing, name)
    containerd.ctr("images", "rm", passing)
