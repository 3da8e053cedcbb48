"""Real certificates from the openssl command: an authority, and pairs that it signed."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@dataclass(frozen=True)
class Pair:
    cert: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder of its own."""

    folder: Path

    @classmethod
    def new(cls, folder: Path) -> "Authority":
        folder.mkdir(parents=True)
        key, cert = str(folder / "ca.key"), str(folder / "ca.crt")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        constraints = ("-addext", "keyUsage=critical,keyCertSign")
        _openssl(
            "req",
            "-x509",
            *curve,
            "-keyout",
            key,
            "-out",
            cert,
            "-days",
            "2",
            "-subj",
            f"/CN={folder.name}",
            *constraints,
        )
        return cls(folder)

    @property
    def cert(self) -> Path:
        return self.folder / "ca.crt"

    def sign(self, name: str, subject: str = "homeostat") -> Pair:
        """A pair for 127.0.0.1 and localhost, also good as a client's."""
        pair, request = Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key"), self.folder / f"{name}.csr"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(
            "subjectAltName=IP:127.0.0.1,DNS:localhost\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
        )
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        _openssl("req", *curve, "-keyout", str(pair.key), "-out", str(request), "-subj", f"/CN={subject}")
        signer = ("-CA", str(self.cert), "-CAkey", str(self.folder / "ca.key"), "-CAcreateserial")
        _openssl(
            "x509",
            "-req",
            "-in",
            str(request),
            *signer,
            "-out",
            str(pair.cert),
            "-days",
            "2",
            "-extfile",
            str(extensions),
        )
        return pair
