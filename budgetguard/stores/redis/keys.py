"""The names of a namespace's keys. One hash tag: whatever a call touches lies in one slot, and is one atomic step."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import quote

FIXED = ("meta", "open", "index", "outbox", "outputs")


class Keys:
    """The keys of a namespace: `meta`, `open`, `index`, `outbox` and `outputs`, and one for each reservation, account,
    set of outputs, and cause that is told once.

    The namespace is percent-encoded and accounts are digests, so that no label and no brace can make another key.
    """

    def __init__(self, namespace: str) -> None:
        self.prefix = f"bg:{{{quote(namespace, safe='')}}}:"
        fixed = (f"{self.prefix}{name}".encode() for name in FIXED)
        self.meta, self.open, self.index, self.outbox, self.outputs = fixed
        self._account, self._hold, self._told, self._output = (f"{self.prefix}{kind}:".encode() for kind in "ahto")

    def account(self, digest: bytes) -> bytes:
        """Of an account, by its digest."""
        return self._account + digest

    def hold(self, id: str) -> bytes:
        """Of a reservation."""
        return self._hold + id.encode()

    def output(self, digest: bytes) -> bytes:
        """Of a set of outputs, by its digest."""
        return self._output + digest

    def told(self, cause: str) -> bytes:
        """Of what is told once."""
        return self._told + digest_of(cause)


@lru_cache(65_536)
def digest_of(key: str) -> bytes:
    """What stands for an account, a set or a cause: 16 characters of base64, of 12 bytes of its key's BLAKE2b."""
    return urlsafe_b64encode(blake2b(key.encode(), digest_size=12).digest())


def content_digest(text: str) -> bytes:
    """What tells a repeat from a conflict of one id: 8 characters of base64, of 6 bytes of the text's BLAKE2b."""
    return urlsafe_b64encode(blake2b(text.encode(), digest_size=6).digest())
