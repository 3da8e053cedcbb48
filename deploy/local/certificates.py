"""The cluster's own certificate authority and the certificates it issues, made with openssl."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path

from deploy.local.layout import API_SERVICE, GATEWAY, NODE, Layout
from deploy.local.progress import call

DAYS = "3650"
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
FIX = "remove .local/state and .local/volumes, then run `make up`"

API_NAMES = f"DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:{GATEWAY},IP:{API_SERVICE}"
ISSUED = {  # file: (common name, organisation, alternative names)
    "apiserver": ("kube-apiserver", "homeostat", API_NAMES),
    "admin": ("admin", "system:masters", "DNS:admin"),
    "kubelet": (f"system:node:{NODE}", "system:nodes", f"DNS:{NODE},IP:{GATEWAY}"),
    "front": ("front-proxy", "homeostat", "DNS:front"),
}


def make(of: Layout) -> None:
    """Make the authority, all certificates and the key of service accounts in an empty folder."""
    of.pki.mkdir(parents=True, exist_ok=True)
    of.pki.chmod(0o700)
    authority, authority_key = of.pki / "ca.crt", of.pki / "ca.key"
    call(
        [
            "openssl",
            "req",
            "-x509",
            *KEY,
            "-keyout",
            authority_key,
            "-out",
            authority,
            "-subj",
            "/CN=homeostat-local",
            "-days",
            DAYS,
        ],
        fix=FIX,
    )
    for name in ISSUED:
        _issue(of.pki, name)
    call(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", of.pki / "sa.key"], fix=FIX)
    call(["openssl", "ec", "-in", of.pki / "sa.key", "-pubout", "-out", of.pki / "sa.pub"], fix=FIX)


def _issue(pki: Path, name: str) -> None:
    common_name, organisation, alternatives = ISSUED[name]
    with tempfile.TemporaryDirectory() as folder:
        request, extensions = Path(folder, "request"), Path(folder, "extensions")
        extensions.write_text(f"subjectAltName={alternatives}\n")
        call(
            [
                "openssl",
                "req",
                *KEY,
                "-keyout",
                pki / f"{name}.key",
                "-out",
                request,
                "-subj",
                f"/O={organisation}/CN={common_name}",
            ],
            fix=FIX,
        )
        call(
            [
                "openssl",
                "x509",
                "-req",
                "-in",
                request,
                "-CA",
                pki / "ca.crt",
                "-CAkey",
                pki / "ca.key",
                "-CAcreateserial",
                "-out",
                pki / f"{name}.crt",
                "-days",
                DAYS,
                "-extfile",
                extensions,
            ],
            fix=FIX,
        )


def kubeconfig(of: Layout, user: str) -> str:
    """A self-contained kubeconfig (JSON, which is YAML) for one of the issued identities; context `homeostat-local`."""

    def inline(name: str) -> str:
        return base64.b64encode((of.pki / name).read_bytes()).decode()

    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "homeostat-local",
                    "cluster": {"server": f"https://{GATEWAY}:6443", "certificate-authority-data": inline("ca.crt")},
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": inline(f"{user}.crt"),
                        "client-key-data": inline(f"{user}.key"),
                    },
                }
            ],
            "contexts": [{"name": "homeostat-local", "context": {"cluster": "homeostat-local", "user": user}}],
            "current-context": "homeostat-local",
        },
        indent=1,
    )
