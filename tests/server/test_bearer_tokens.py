"""Bearer tokens: shown once, kept as digests, in a file that is replaced whole."""

import stat
import threading
from pathlib import Path

import pytest

from dreamsvc import bearer_tokens
from dreamsvc.bearer_tokens import Made
from dreamsvc.errors import InvalidFields, NotFound

NOW_US = 1_800_000_000_000_000


def made(name: str = "agent", *, expire_us: int | None = None) -> Made:
    return bearer_tokens.make(name=name, scopes=["memory:read"], spaces=["default"], now_us=NOW_US, expire_us=expire_us)


def test_a_token_is_known_again_and_no_other_text_is(tmp_path: Path) -> None:
    token, other = made(), made("other")
    tokens = {token.stored.id: token.stored}
    assert bearer_tokens.known(tokens, token.text, NOW_US) == token.stored
    for text in ("", "x", token.text[:-1], token.text + "x", f" {token.text}", other.text, token.text.swapcase()):
        assert bearer_tokens.known(tokens, text, NOW_US) is None, text
    # Of one the name, of the other the secret.
    mixed = token.text[:17] + other.text[17:]
    assert bearer_tokens.known(tokens, mixed, NOW_US) is None


def test_a_token_holds_until_it_expires() -> None:
    token = made(expire_us=NOW_US + 10)
    tokens = {token.stored.id: token.stored}
    assert bearer_tokens.known(tokens, token.text, NOW_US + 9) is not None
    assert bearer_tokens.known(tokens, token.text, NOW_US + 10) is None


def test_the_file_has_no_token_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path, token = tmp_path / "somewhere" / "memory.db.tokens", made()
    bearer_tokens.add(path, token)
    content = path.read_text()
    assert token.text not in content
    assert token.text[18:] not in content
    assert token.stored.sha256 in content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(bearer_tokens.read(path).tokens) == [token.stored]


def test_two_tokens_have_nothing_in_common() -> None:
    texts = {made().text for _ in range(100)}
    assert len({text.split("_", 2)[1] for text in texts}) == len({text.split("_", 2)[2] for text in texts}) == 100


def test_tokens_are_revoked_by_id_or_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    one, two, three = made("a"), made("b"), made("b")
    for token in (one, two, three):
        bearer_tokens.add(path, token)
    assert bearer_tokens.revoke(path, one.stored.id) == [one.stored]
    assert bearer_tokens.revoke(path, "b") == [two.stored, three.stored]
    assert not bearer_tokens.read(path).tokens
    with pytest.raises(NotFound, match="no token"):
        bearer_tokens.revoke(path, "b")


def test_commands_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens"

    def work() -> None:
        for _ in range(5):
            bearer_tokens.add(path, made())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bearer_tokens.read(path).tokens) == 20


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        "[]",
        '{"tokens": 3}',
        '{"tokens": [{}]}',
        '{"tokens": [{"id": "0123456789ab", "name": "a", "sha256": "x", "scopes": ["admin"], "spaces": ["*"]}]}',
        "\xff",
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidFields, match="tokens"):
        bearer_tokens.read(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "two words"),
        ("scopes", ["memory:all"]),
        ("scopes", []),
        ("spaces", ["a/b"]),
        ("spaces", []),
    ],
)
def test_what_no_token_can_have_is_refused_by_its_field(field: str, value: object) -> None:
    fields = {"name": "agent", "scopes": ["admin"], "spaces": ["*"], "now_us": NOW_US, "expire_us": None}
    with pytest.raises(InvalidFields, match=field):
        bearer_tokens.make(**{**fields, field: value})  # type: ignore[arg-type]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, first = tmp_path / "tokens", made()
    bearer_tokens.add(path, first)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bearer_tokens.os, "fsync", full)
    with pytest.raises(Exception, match="No space left"):
        bearer_tokens.add(path, made())
    monkeypatch.undo()
    assert list(bearer_tokens.read(path).tokens) == [first.stored]
    bearer_tokens.add(path, made())
    assert len(bearer_tokens.read(path).tokens) == 2
