"""A real registry on a loopback port, for tests: docker-registry (Debian) or distribution's `registry`."""

import shutil
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

CONFIG = """
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {folder}}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
"""


def binary() -> str | None:
    """The registry's program, or None when the machine has none."""
    local = Path(__file__).parents[2] / ".local" / "bin" / "registry"
    return str(local) if local.exists() else shutil.which("docker-registry") or shutil.which("registry")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Registry:
    """One registry process over one folder; it can be stopped and started again on the same port."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def uri(self, name: str) -> str:
        return f"oci://{self.host}/{name}"

    def start(self, deadline: float = 20) -> None:
        program = binary()
        assert program, "install docker-registry"
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "config.yml"
        config.write_text(CONFIG.format(folder=self.folder / "store", port=self.port))
        self.process = subprocess.Popen(
            [program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + deadline
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.host}/v2/", timeout=1):
                    return
            except OSError:
                assert time.monotonic() < end, "the registry did not start"
                time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def blob(self, digest: str) -> Path:
        """Where the registry keeps a blob, so that a test can damage it."""
        value = digest.removeprefix("sha256:")
        return self.folder / "store/docker/registry/v2/blobs/sha256" / value[:2] / value / "data"
