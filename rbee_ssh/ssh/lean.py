"""asyncssh, imported without what rbee has no use for: 30 of the 110 ms that its import takes.

Every other module gets asyncssh from here. What is left out, asyncssh itself treats as optional:

- X.509 certificates. They are not OpenSSH's, and cryptography.x509 is loaded before asyncssh finds out that
  pyOpenSSL is missing.
- The search for liboqs (post-quantum key exchange, beside the one that cryptography has) where the loader's
  cache does not list it. ctypes.util.find_library then starts gcc and ld, twice.
"""

from __future__ import annotations

import ctypes.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CACHE = Path("/etc/ld.so.cache")
_X509 = "asyncssh.crypto.x509"
_find_library = ctypes.util.find_library


def _find_cached(name: str) -> str | None:
    """ctypes.util.find_library, for what the loader's cache lists; for all where there is no such cache."""
    try:
        listed = f"lib{name}.so".encode() in _CACHE.read_bytes()
    except OSError:
        listed = True
    return _find_library(name) if listed else None


@contextmanager
def _less() -> Iterator[None]:
    ctypes.util.find_library = _find_cached
    # None in the place of a module makes its import fail.
    sys.modules.setdefault(_X509, None)  # type: ignore[arg-type]
    try:
        yield
    finally:
        ctypes.util.find_library = _find_library
        if sys.modules[_X509] is None:
            del sys.modules[_X509]


with _less():
    import asyncssh

__all__ = ["asyncssh"]
