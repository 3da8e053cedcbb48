"""A thin client of the API server: JSON in, JSON out, the errors of `homeostat.errors`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from homeostat.errors import Conflict, Forbidden, Gone, HomeostatError, Invalid, NotFound, Unavailable

Json = dict[str, Any]

APPLY: Final = "application/apply-patch+yaml"  # JSON is YAML
MERGE: Final = "application/merge-patch+json"
JSON: Final = "application/json"
PAGE: Final = 500
SILENCE_SECONDS: Final = 70.0  # bookmarks come each minute: a longer silence is a dead stream
REQUEST_SECONDS: Final = (
    4.0  # less than a Lease lasts beyond its trust: a request of a lost one is over before another leads
)


class Access:
    """Where the API server is and how it is spoken to, from the official client's configuration.

    In a pod: the mounted service account, its token read again as it rotates. Elsewhere: a kubeconfig.
    """

    def __init__(self, configuration: Any, context: ssl.SSLContext) -> None:
        self._configuration = configuration
        self.host: str = configuration.host.rstrip("/")
        self.ssl = context

    @classmethod
    async def load(cls, kubeconfig: str | None) -> Access:
        """Read credentials. Raises the official client's ConfigException when there are none."""
        from kubernetes.aio import client, config

        configuration = client.Configuration()
        if kubeconfig is None:
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
        api = client.ApiClient(configuration)
        try:
            return cls(configuration, api.rest_client.ssl_context)
        finally:
            await api.close()

    async def headers(self) -> dict[str, str]:
        """The authorization header, refreshed by the official client when it is due."""
        settings = await self._configuration.auth_settings()
        return {s["key"]: s["value"] for s in settings.values() if s.get("in") == "header" and s.get("value")}


def kubeconfig_path() -> str | None:
    """None inside a pod; else the kubeconfig that the environment names."""
    import os

    if Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists():
        return None
    return os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")


class Client:
    """Requests to one API server. Nothing is retried inside: retries belong to the queue."""

    def __init__(self, access: Access, session: aiohttp.ClientSession) -> None:
        self._access = access
        self._session = session

    @classmethod
    async def connect(cls, access: Access) -> Client:
        """A client with its own connections: watches hold six a namespace, so their number has no limit of its own."""
        connector = aiohttp.TCPConnector(limit=0, ssl=access.ssl, keepalive_timeout=60)
        return cls(access, aiohttp.ClientSession(connector=connector, auto_decompress=True))

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Json:
        """GET. Raises NotFound, Forbidden, Unavailable."""
        return await self.send("GET", path, params=params)

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = JSON,
        params: Mapping[str, str] | None = None,
    ) -> Json:
        """One request; the parsed answer. Raises the errors of `homeostat.errors`, never the transport's."""
        headers = {**await self._access.headers(), "Accept": JSON}
        payload = None
        if body is not None:
            headers["Content-Type"] = content_type
            payload = orjson.dumps(body)
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=5)
        try:
            async with self._session.request(
                method, self._access.host + path, data=payload, params=params, headers=headers, timeout=timeout
            ) as answer:
                content = await answer.read()
                if answer.status >= 400:
                    raise _error(answer.status, content, answer.headers, f"{method} {path}")
                found: Json = orjson.loads(content) if content else {}
                return found
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{method} {path}: {type(error).__name__} {error}".strip()) from error

    async def pages(self, path: str, params: Mapping[str, str]) -> AsyncIterator[Json]:
        """A list in pages of 500; each is the API server's List object."""
        more: dict[str, str] = {}
        while True:
            page = await self.get(path, {**params, "limit": str(PAGE), **more})
            yield page
            following = page["metadata"].get("continue")
            if not following:
                return
            more = {"continue": following}

    async def watch(self, path: str, params: Mapping[str, str], since: str) -> AsyncIterator[Json]:
        """Events since a resourceVersion until the server ends the stream. Raises Gone, Unavailable."""
        query = {
            **params,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": "600",
        }
        headers = {**await self._access.headers(), "Accept": JSON}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=SILENCE_SECONDS)
        try:
            async with self._session.get(
                self._access.host + path, params=query, headers=headers, timeout=timeout
            ) as answer:
                if answer.status >= 400:
                    raise _error(answer.status, await answer.read(), answer.headers, f"WATCH {path}")
                async for line in _lines(answer.content):
                    event: Json = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise _watch_error(event["object"])
                    yield event
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"WATCH {path}: {type(error).__name__} {error}".strip()) from error


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length: aiohttp's own reader refuses those over its buffer."""
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
        await asyncio.sleep(0)  # a burst must not starve the loop


def _watch_error(status: Json) -> HomeostatError:
    code, message = status.get("code"), status.get("message", "")
    return Gone(message) if code == 410 else Unavailable(f"watch: {code} {message}")


def _error(status: int, content: bytes, headers: Mapping[str, str], what: str) -> HomeostatError:
    try:
        message = orjson.loads(content).get("message", "")
    except (orjson.JSONDecodeError, AttributeError):
        message = content[:200].decode(errors="replace")
    text = f"{what}: {status} {message}"
    match status:
        case 404:
            return NotFound(text)
        case 409:
            return Conflict(text)
        case 401 | 403:
            return Forbidden(message or text)
        case 410:
            return Gone(text)
        case 429 | 500 | 502 | 503 | 504:
            return Unavailable(text, _seconds(headers.get("Retry-After")))
        case _:
            return Invalid(message or text)


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdecimal() else None
