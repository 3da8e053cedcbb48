"""HTTP to a registry: one connection pool, retries of what is safe to retry, and errors in our terms."""

from collections.abc import Mapping
from typing import IO, Final

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError
from urllib3.response import BaseHTTPResponse

from homeostat import __version__
from homeostat.artifacts.address import Address
from homeostat.errors import ArtifactError

CHUNK: Final = 1 << 20
_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
# 0 + 1 + 2 + 4 s between tries: a registry that is being restarted is waited for, one that is down is named within 30 s
_RETRIES: Final = urllib3.Retry(
    total=4, backoff_factor=0.5, status_forcelist=(429, 502, 503, 504), raise_on_status=False, redirect=5
)
_TIMEOUT: Final = urllib3.Timeout(connect=4, read=60)


class Transport:
    """Sends requests to registries.

    plain_http: hosts (`host:port`) that speak HTTP without TLS; loopback hosts always do.
    """

    def __init__(self, plain_http: tuple[str, ...] = ()) -> None:
        self._plain = frozenset(plain_http)
        self._pool = urllib3.PoolManager(retries=_RETRIES, timeout=_TIMEOUT)

    def base(self, address: Address) -> str:
        """`https://host/v2/repository`, or http for a host that speaks it."""
        bare = address.host.rpartition(":")[0] or address.host
        plain = address.host in self._plain or bare in _LOOPBACK or address.host in _LOOPBACK
        return f"{'http' if plain else 'https'}://{address.host}/v2/{address.repository}"

    def send(
        self,
        method: str,
        url: str,
        address: Address,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | IO[bytes] | None = None,
    ) -> BaseHTTPResponse:
        """The answer; that of a GET has its body not read yet. 404 is an answer, all other 4xx and 5xx raise ArtifactError."""
        fields = {"User-Agent": f"homeostat/{__version__}", **(headers or {})}
        try:
            answer = self._pool.request(method, url, body=body, headers=fields, preload_content=method != "GET")
        except HTTPError as error:
            raise unreachable(address, error) from error
        if answer.status < 400:
            return answer
        text = answer.data[:2048].decode(errors="replace").strip()
        if answer.status == 404:
            return answer
        raise _refused(address, method, answer.status, " ".join(text.split())[:300])


def unreachable(address: Address, error: Exception) -> ArtifactError:
    """No answer from the registry: worth another try, unless TLS says that it never will be."""
    cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
    hint = "check that it runs and that this network may reach it"
    if isinstance(cause, SSLError):
        hint = f"if it speaks HTTP without TLS, say so: --plain-http {address.host}"
    text = f"{type(cause).__name__}: {cause}".split("Connection object at")[-1]
    return ArtifactError(
        "RegistryUnreachable", f"registry {address.host} does not answer ({text[:200]}); {hint}", permanent=False
    )


def _refused(address: Address, method: str, status: int, text: str) -> ArtifactError:
    said = f"registry {address.host} answered {status} to {method} for {address.repository}"
    if status in {401, 403}:
        return ArtifactError("RegistryDenied", f"{said}: allow anonymous access to this repository. {text}".strip())
    if status == 429 or status >= 500:
        return ArtifactError("RegistryUnreachable", f"{said}: {text or 'try again later'}", permanent=False)
    return ArtifactError("RegistryRefused", f"{said}: {text or 'no explanation given'}")
