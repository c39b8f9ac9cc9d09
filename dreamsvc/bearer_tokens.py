"""Bearer tokens: made, known again, and kept as digests in one file beside the store.

A token is `dsvc_<id>_<secret>`. The id is no secret: it names the token in the file. The whole is shown once, when it
is made; the file has its SHA-256, which is enough for a secret of 256 bits. Service and command share the file: a
command replaces it whole, under a lock, and the service reads it again when it has changed.
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from dreamsvc import contract, entropy, json_messages
from dreamsvc.clock import from_timestamp, to_timestamp
from dreamsvc.errors import InvalidFields, NotFound, StoreUnavailable, Violation, invalid
from dreamsvc.v1.access_pb2 import StoredToken, TokensFile
from dreamsvc.v1.config_pb2 import Config

ADMIN = "admin"
SCOPES = ("memory:read", "memory:write", "dream:read", "dream:control", ADMIN)
ALL_SPACES = "*"
PREFIX = "dsvc_"
_SHAPE = re.compile(r"dsvc_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
SPACE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PRIVATE = ":memory:"
_NO_DIGEST = "0" * 64


class Made(NamedTuple):
    """A fresh token: the only place that ever has its text."""

    text: str
    stored: StoredToken


def path_of(config: Config) -> Path | None:
    """Where the tokens lie; None where a store that is gone with the process has no place configured."""
    if config.security.tokens_file:
        return Path(config.security.tokens_file).expanduser()
    return None if config.store.path == _PRIVATE else Path(f"{config.store.path}.tokens").expanduser()


def make(*, name: str, scopes: Iterable[str], spaces: Iterable[str], now_us: int, expire_us: int | None) -> Made:
    """Draws a token; raises InvalidFields."""
    identity, secret = entropy.token_parts()
    text = f"{PREFIX}{identity}_{secret}"
    stored = StoredToken(
        id=identity,
        name=name,
        sha256=_digest(text),
        scopes=sorted(set(scopes), key=lambda scope: SCOPES.index(scope) if scope in SCOPES else -1),
        spaces=sorted(set(spaces)),
        create_time=to_timestamp(now_us),
        expire_time=None if expire_us is None else to_timestamp(expire_us),
    )
    _check(TokensFile(tokens=[stored]), "")
    return Made(text, stored)


def known(tokens: Mapping[str, StoredToken], text: str, now_us: int) -> StoredToken | None:
    """The token that a text is, by its id; None where it is none, unknown, revoked or expired."""
    shape = _SHAPE.fullmatch(text)
    stored = None if shape is None else tokens.get(shape[1])
    # Compared in any case, in the same time.
    matches = hmac.compare_digest(_digest(text), _NO_DIGEST if stored is None else stored.sha256)
    return stored if stored is not None and matches and not expired(stored, now_us) else None


def expires_us(stored: StoredToken) -> int | None:
    """Wall-clock microseconds from which on it is none; None: never."""
    return from_timestamp(stored.expire_time) if stored.HasField("expire_time") else None


def expired(stored: StoredToken, now_us: int) -> bool:
    until_us = expires_us(stored)
    return until_us is not None and until_us <= now_us


def read(path: Path) -> TokensFile:
    """What the file holds, nothing where there is none; raises InvalidFields where it cannot be read or is damaged."""
    found = TokensFile()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return found
    except (OSError, UnicodeDecodeError) as error:
        raise invalid(str(path), f"cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from error
    try:
        values: Any = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("no object")
        json_messages.read(cast("dict[str, Any]", values), found)
    except (ValueError, TypeError, RecursionError) as error:
        raise invalid(
            str(path), "is no file of tokens; put it back from a copy, or delete it: all are void then"
        ) from error
    _check(found, f"{path}: ")
    return found


def add(path: Path, made: Made) -> None:
    """Puts a token into the file; raises InvalidFields or StoreUnavailable, and the token is worth nothing then."""
    with _exclusively(path):
        whole = read(path)
        whole.tokens.append(made.stored)
        _replace(path, whole)


def revoke(path: Path, which: str) -> list[StoredToken]:
    """Takes tokens out, by an id or by their name, and gives them; raises NotFound where there is none."""
    with _exclusively(path):
        whole = read(path)
        gone = [token for token in whole.tokens if which in (token.id, token.name)]
        if not gone:
            raise NotFound(f'there is no token "{which[:80]}" in {path}')
        kept = [token for token in whole.tokens if which not in (token.id, token.name)]
        _replace(path, TokensFile(tokens=kept))
    return gone


def _check(whole: TokensFile, where: str) -> None:
    wrong: list[Violation] = []
    try:
        contract.check(whole)
    except InvalidFields as error:
        wrong = [Violation(f"{where}{path}", message) for path, message in error.violations]
    for i, token in enumerate(whole.tokens):
        at = f"{where}tokens[{i}]"
        wrong += [
            Violation(f"{at}.scopes", f'has "{scope[:80]}"; there are {", ".join(SCOPES)}')
            for scope in token.scopes
            if scope not in SCOPES
        ]
        wrong += [
            Violation(f"{at}.spaces", f'has "{space[:80]}", which is no name of a space; "*" is all of them')
            for space in token.spaces
            if space != ALL_SPACES and not SPACE_NAME.fullmatch(space)
        ]
    if wrong:
        raise InvalidFields(wrong)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


@contextlib.contextmanager
def _exclusively(path: Path) -> Generator[None]:
    """One command at a time; the lock has a file of its own, since the tokens' file is replaced."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, whole: TokensFile) -> None:
    part = path.with_name(f"{path.name}.part")
    text = json.dumps(json_messages.write(whole), indent=1) + "\n"
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(part, path)
        _sync_directory(path.parent)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written: {error.strerror}") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
