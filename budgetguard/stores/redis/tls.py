"""The TLS settings of an address with their files read."""

from __future__ import annotations

import os
import ssl
from dataclasses import asdict
from functools import lru_cache

from redis.asyncio.connection import RedisSSLContext

from budgetguard.stores.redis.address import Tls
from budgetguard.stores.redis.errors import Remedy, Trouble


def tls_context(tls: Tls) -> ssl.SSLContext:
    """For the next connection: certificates are renewed while processes live, so files that changed are read again.

    Raises:
        Trouble: a file cannot be read.
    """
    files = [name for name in (tls.ssl_ca_certs, tls.ssl_certfile, tls.ssl_keyfile) if name is not None]
    try:
        return _read(tls, tuple(os.stat(name).st_mtime_ns for name in files))
    except OSError as error:  # also what `ssl` raises
        text = f"ssl_ca_certs, ssl_certfile or ssl_keyfile of the store's URL cannot be read: {error}"
        raise Trouble(text, Remedy.OPERATOR) from error


@lru_cache(maxsize=8)  # reading the system's authorities takes some 40 ms, and blocks
def _read(tls: Tls, _changed_ns: tuple[int, ...]) -> ssl.SSLContext:
    return RedisSSLContext(**{name.removeprefix("ssl_"): value for name, value in asdict(tls).items()}).get()
