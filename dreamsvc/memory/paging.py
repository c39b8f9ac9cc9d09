"""Page tokens: where a listing goes on, bound to the listing it came from."""

import base64
import binascii
import hashlib

from dreamsvc.errors import invalid

_SCOPE_BYTES = 6


def scope(*parts: object) -> bytes:
    """What a token is good for: the same listing with the same filters."""
    return hashlib.sha256(repr(parts).encode()).digest()[:_SCOPE_BYTES]


def write(position: int, of: bytes) -> str:
    return base64.urlsafe_b64encode(of + position.to_bytes(8)).decode()


def read(token: str, of: bytes) -> int:
    """The position, 0 for no token; raises InvalidFields for one that is torn or of another listing."""
    if not token:
        return 0
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii"))
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _SCOPE_BYTES + 8 or raw[_SCOPE_BYTES] >= 0x80:
        raise invalid("page_token", "is no page token of this service")
    if raw[:_SCOPE_BYTES] != of:
        raise invalid("page_token", "belongs to a listing with another space or other filters")
    return int.from_bytes(raw[_SCOPE_BYTES:])
