"""The only importer of randomness: ids and seeds."""

import hashlib
import secrets
import uuid


def uuid7(now_us: int) -> str:
    """Time-ordered UUID (RFC 9562, version 7) for a wall-clock time in microseconds."""
    milliseconds = (now_us // 1000) & ((1 << 48) - 1)
    value = milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))


def uuid_for(*names: str) -> str:
    """The UUID (version 8) that belongs to these names: equal names, equal id, on every machine."""
    digest = hashlib.sha256("\x1f".join(names).encode()).digest()
    value = int.from_bytes(digest[:16])
    value = value & ~(0xF << 76) | 0x8 << 76
    value = value & ~(0b11 << 62) | 0b10 << 62
    return str(uuid.UUID(int=value))


def uuid_bytes(text: str) -> bytes | None:
    """The 16 bytes of a UUID's text, or None where it is none."""
    if len(text) != 36:
        return None
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        return None


def uuid_text(raw: bytes) -> str:
    return str(uuid.UUID(bytes=raw))


def seed() -> int:
    """A fresh seed of 63 bits."""
    return secrets.randbits(63)


def trace_id() -> str:
    """32 hex digits."""
    return secrets.token_hex(16)


def span_id() -> str:
    """16 hex digits."""
    return secrets.token_hex(8)


def token_parts() -> tuple[str, str]:
    """The name of a token, 12 hex digits, and its secret: 256 bits, as 43 letters that a URL may have."""
    return secrets.token_hex(6), secrets.token_urlsafe(32)
