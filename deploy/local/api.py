"""A minimal client of the local API server: JSON over HTTPS with the administrator's certificate."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

from deploy.local.layout import GATEWAY, Layout
from deploy.local.progress import Problem


class Api:
    """One connection per request; never through a proxy."""

    def __init__(self, of: Layout) -> None:
        self._context = ssl.create_default_context(cafile=str(of.pki / "ca.crt"))
        self._context.load_cert_chain(of.pki / "admin.crt", of.pki / "admin.key")

    def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        """Status and decoded answer (text when it is not JSON); raises OSError when nobody answers."""
        connection = http.client.HTTPSConnection(GATEWAY, 6443, timeout=10, context=self._context)
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {"Content-Type": content_type, "Accept": "application/json"},
            )
            answer = connection.getresponse()
            text = answer.read().decode()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def get(self, path: str) -> Any:
        """The object at `path`, or None when it is not there or the server does not answer."""
        try:
            status, body = self.request("GET", path)
        except OSError:
            return None
        return body if status == 200 else None

    def apply(self, path: str, manifest: dict[str, Any]) -> None:
        """Server-side apply; raises Problem with the server's message."""
        status, body = self.request(
            "PATCH", f"{path}?fieldManager=homeostat-local&force=true", manifest, "application/apply-patch+yaml"
        )
        if status not in {200, 201}:
            message = body.get("message", body) if isinstance(body, dict) else body
            raise Problem(f"the API server refused {path}: {message}", "see .local/state/log/kube-apiserver.log")

    def ready(self) -> bool:
        return self.get("/readyz") is not None


def condition(resource: Any, kind: str) -> bool:
    """True when the object's status condition of this type is True."""
    listed = (resource or {}).get("status", {}).get("conditions", [])
    return any(each["type"] == kind and each["status"] == "True" for each in listed)
