"""TLS from files that the pod mounts, read again when they change.

One outer context for each listener stays for the pod's life; at every handshake it hands over to the contexts made from
the files as they are now (`SSLSocket.context`). So a new certificate, and a new or withdrawn client authority, holds for
new connections at once and disturbs no open one. A pair that cannot be loaded changes nothing, and `problem` says so.
"""

import ssl
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from homeostat.errors import ArtifactError
from homeostat.server.settings import Settings

HTTP1: Final = ("http/1.1",)
HTTP2: Final = ("h2",)
_PEM_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_PEM_END: Final = "-----END CERTIFICATE-----"
_Seen = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files. client_ca: authorities of client certificates; empty: clients need none."""

    cert: str
    key: str
    client_ca: str = ""

    def seen(self) -> _Seen:
        """What changes when a file does: the kubelet swaps a link, others write anew."""
        return tuple(_stamp(path) for path in (self.cert, self.key, self.client_ca) if path)


class Reloading:
    """A listener's context. Give `outer` to `create_server` and call `poll` every few seconds."""

    def __init__(self, files: Files, protocols: tuple[str, ...]) -> None:
        """protocols: for ALPN, the best first. Raises ArtifactError `TlsInvalid`."""
        self._files, self._protocols = files, protocols
        self._seen = files.seen()
        try:
            self._now = _context(files, protocols)
            self.outer = _context(files, protocols)
        except (OSError, ValueError) as error:
            raise ArtifactError("TlsInvalid", _words(files, error)) from error
        self.problem = ""
        self.reloads = 0
        self.outer.sni_callback = self._hand_over

    def _hand_over(self, handshake: Any, name: str | None, outer: ssl.SSLContext) -> None:  # noqa: ARG002
        handshake.context = self._now

    def poll(self) -> None:
        """Read the files again when they changed."""
        seen = self._files.seen()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._now = _context(self._files, self._protocols)
        except (OSError, ValueError) as error:
            self.problem = f"{_words(self._files, error)}; the certificate of before is still used"
            sys.stderr.write(f"TLS: {self.problem}\n")
        else:
            self.problem = ""
            self.reloads += 1


class Peers:
    """Whom a pod trusts when it forwards: who shows the certificate that it has itself.

    The pods of one deployment mount the same Secret. So a Service's name need not be in the certificate, and nobody else
    of its authority passes. Certificates of before stay trusted: another pod may get the new one a minute later.
    """

    def __init__(self, files: Files) -> None:
        """Raises ArtifactError `TlsInvalid`."""
        self._files, self._seen = files, files.seen()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.check_hostname = False
        self.context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            self._load()
        except (OSError, ValueError) as error:
            raise ArtifactError("TlsInvalid", _words(files, error)) from error

    def poll(self) -> None:
        """Read the files again when they changed; what cannot be used is the listeners' to say."""
        seen = self._files.seen()
        if seen != self._seen:
            self._seen = seen
            with suppress(OSError, ValueError):
                self._load()

    def _load(self) -> None:
        self.context.load_cert_chain(self._files.cert, self._files.key, password=_no_password)
        self.context.load_verify_locations(cadata=_own(self._files))


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts of a process's listeners; None: in the clear. They all come from the same files. peers: for forwards."""

    rest: Reloading | None = None
    grpc: Reloading | None = None
    admin: Reloading | None = None
    peers: Peers | None = None

    @classmethod
    def of_worker(cls, settings: Settings) -> "Contexts":
        """For the serving ports and for forwards. Raises ArtifactError `TlsInvalid`."""
        if not settings.tls_cert:
            return cls()
        files = Files(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        return cls(rest=Reloading(files, HTTP1), grpc=Reloading(files, HTTP2), peers=Peers(files))

    @classmethod
    def of_supervisor(cls, settings: Settings) -> "Contexts":
        """For the admin port with `--tls-admin`; else only to see whether the files are right. Raises ArtifactError."""
        if not settings.tls_cert:
            return cls()
        serving = Reloading(Files(settings.tls_cert, settings.tls_key, settings.tls_client_ca), HTTP1)
        if not settings.tls_admin:
            return cls(rest=serving)
        return cls(rest=serving, admin=Reloading(Files(settings.tls_cert, settings.tls_key), HTTP1))

    def poll(self) -> str:
        """Read the files again when they changed. Returns what is wrong with them, empty when nothing is."""
        problem = ""
        for one in (self.rest, self.grpc, self.admin):
            if one is not None:
                one.poll()
                problem = problem or one.problem
        if self.peers is not None:
            self.peers.poll()
        return problem


def handshake(one: Reloading | None, settings: Settings) -> dict[str, Any]:
    """What `create_server` is told about TLS; a client has as long for the handshake as for a header."""
    return {} if one is None else {"ssl": one.outer, "ssl_handshake_timeout": settings.header_seconds}


def _context(files: Files, protocols: tuple[str, ...]) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    made.set_alpn_protocols(list(protocols))
    made.load_cert_chain(files.cert, files.key, password=_no_password)
    if files.client_ca:
        made.load_verify_locations(files.client_ca)
        made.load_verify_locations(cadata=_own(files))  # the other version's pods, when they forward
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        made.verify_mode = ssl.CERT_REQUIRED
        made.num_tickets = 0  # a resumed session would not be asked for its certificate again
        made.options |= ssl.OP_NO_TICKET
    return made


def _own(files: Files) -> str:
    """The pod's own certificate, PEM, without the chain behind it: whose issuer is not to be trusted for everybody."""
    _, _, rest = Path(files.cert).read_text("ascii").partition(_PEM_BEGIN)
    body, end, _ = rest.partition(_PEM_END)
    if not end:
        raise ValueError(f"{files.cert} holds no certificate in PEM")
    return f"{_PEM_BEGIN}{body}{end}\n"


def _no_password() -> str:
    raise ValueError("the key is encrypted: mount it without a password")


def _words(files: Files, error: Exception) -> str:
    names = " and ".join(path for path in (files.cert, files.key, files.client_ca) if path)
    what = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
    return f"{names} cannot be used: {what or error}; check --tls-cert, --tls-key and --tls-client-ca"


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
