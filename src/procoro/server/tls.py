"""TLS: the server reads and checks its files, and sends them to its workers: so all have the same at any time."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from procoro.wire import blocks


class Files:
    """Where certificates are. `read` is called at the start and for each restart."""

    def __init__(self, certfile: Any, keyfile: Any, client_ca: Any) -> None:
        for name, path in (("certfile", certfile), ("keyfile", keyfile), ("client_ca", client_ca)):
            if not isinstance(path, (str, os.PathLike, type(None))):
                raise TypeError(f"{name} must be the path of a file in PEM format, got {path!r}")
            if path is not None and certfile is None:
                raise ValueError(f"{name} is of no use without a certfile")
        self._certfile = certfile
        self._keyfile = keyfile
        self._client_ca = client_ca

    def read(self) -> Certificates | None:
        """What they hold now; None: there is to be no TLS.

        Raises:
            OSError: one cannot be read.
            ValueError: they do not fit together, or no client would take them (any more).
        """
        if self._certfile is None:
            return None
        chain = _read("certfile", self._certfile)
        key = chain if self._keyfile is None else _read("keyfile", self._keyfile)
        if b" PRIVATE KEY-----" not in key:
            hint = "; keyfile names the file that has it" if self._keyfile is None else ""
            holder = os.fspath(self._keyfile or self._certfile)
            raise ValueError(f"TLS is not possible with {holder}: there is no key in it{hint}")
        found = Certificates(chain, key, None if self._client_ca is None else _read("client_ca", self._client_ca))
        try:
            found.check()
        except (ssl.SSLError, ValueError) as error:
            names = [os.fspath(one) for one in (self._certfile, self._keyfile, self._client_ca) if one is not None]
            words = getattr(error, "verify_message", None) or getattr(error, "reason", None) or error
            raise ValueError(f"TLS is not possible with {', '.join(names)}: {words}") from None
        return found


def _read(name: str, path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise type(error)(error.errno, f"{name} cannot be read: {error.strerror}", os.fspath(path)) from None


class Certificates:
    """The contents, in PEM format: a certificate with its chain, its key, and who signs those of clients."""

    def __init__(self, chain: bytes, key: bytes, client_ca: bytes | None) -> None:
        self._chain = chain
        self._key = key
        self._client_ca = client_ca

    def context(self) -> ssl.SSLContext:
        """For the server's side."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with _as_file(self._chain) as chain, _as_file(self._key) as key:
            context.load_cert_chain(chain, key, _no_password)
        if self._client_ca is not None:
            context.load_verify_locations(cadata=self._client_ca.decode("ascii", "replace"))
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def check(self) -> None:
        """Would a client who trusts in this very certificate take it now? It says so in a handshake in memory."""
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        client.load_verify_locations(cadata=self._chain.decode("ascii", "replace"))
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = client.wrap_bio(back, there)
        for side in (ours, self.context().wrap_bio(there, back, server_side=True), ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def _no_password() -> str:
    raise ValueError("the key has a password, and nobody is here to be asked for it")


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path to it, as OpenSSL wants one, which nobody else sees."""
    fd = blocks.write_bytes([data])
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
