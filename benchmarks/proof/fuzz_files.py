"""Import files of both formats that were valid once, and such that never were."""

import gzip
import json
from typing import Any

from benchmarks.proof.fuzz_draws import CORPUS, TEXTS, Draws
from dreamsvc.v1.memory_pb2 import IMPORT_FORMAT_DREAMSVC_JSONL, IMPORT_FORMAT_MCP_MEMORY

FORMATS = (IMPORT_FORMAT_DREAMSVC_JSONL, IMPORT_FORMAT_MCP_MEMORY)
# As they stand in a file; JSON knows some of them and Python more.
NUMBERS = [*CORPUS["json_numbers"], "9" * 400, "9" * 5000]
VALUES, TIMES = CORPUS["json_values"], CORPUS["times"]
CODES = [*CORPUS["base64"], "A" * 4096]
BRACKETS = ("[", '{"a":', '[{"b":[')


def a_file(draws: Draws, valid: dict[int, list[bytes]]) -> tuple[int, bytes]:
    """A format and the bytes of a file; valid: lines of good files, by format."""
    kind = draws.choice(FORMATS)
    lines = [_line(draws, kind, draws.choice(valid[kind])) for _ in range(draws.choice((0, 1, 1, 2, 3, 5, 12)))]
    if draws.maybe(0.1):
        # In the order of a good file, so that edges find their ends.
        lines = list(valid[kind])
        for _ in range(draws.randrange(3)):
            at = draws.randrange(len(lines))
            lines[at] = _line(draws, kind, lines[at])
    end = draws.choice((b"\n", b"\n", b"\n", b"\r\n", b"\n\n", b"\n \n", b"\r"))
    data = end.join(lines) + draws.choice((b"", end))
    match draws.randrange(40):
        case 0:
            data = b"\xef\xbb\xbf" + data
        case 1:
            data = draws.damaged(data, data)
        case 2:
            data = gzip.compress(data, 1)
        case 3:
            data = draws.randbytes(draws.randrange(300))
        case 4 if draws.maybe(0.1):
            data += draws.choice((b"x", b'{"a":"', b"[", b" ", b"\xff", b"\0")) * (9 * 1024 * 1024) + b"\n{}"
        case 5:
            data = data.decode(errors="ignore").encode(
                draws.choice(("utf-16", "utf-32", "utf-8-sig", "latin-1")), "ignore"
            )
        case _:
            pass
    return kind, data


def _line(draws: Draws, kind: int, line: bytes) -> bytes:
    match draws.randrange(14):
        case 0 | 1 | 2 | 3 | 4:
            return line
        case 5:
            return draws.damaged(line, line)
        case 6:
            return (draws.choice(BRACKETS) * draws.choice((1, 3, 100, 1000, 100_000))).encode()
        case 7:
            return draws.choice((*TEXTS, *VALUES, *NUMBERS)).encode()
        case 8:
            return draws.text()[:2000].encode()
        case 9:
            return _with_twice(draws, line)
        case _:
            return _changed(draws, line)


def _changed(draws: Draws, line: bytes) -> bytes:
    """Another value, or another key, in an object."""
    try:
        value: dict[str, Any] = json.loads(line)
    except (ValueError, RecursionError):
        return line
    for _ in range(draws.choice((1, 1, 2, 3))):
        key = draws.choice(
            [*value, *value, "metadata", "id", "key", "packed", "role", "merged_into", "x", "vector", "path"]
        )
        # What no encoder would write is put in as text afterwards.
        value[key] = f"<{draws.randrange(10**9)}>"
        if draws.maybe(0.1):
            del value[key]
    text = json.dumps(value, ensure_ascii=draws.maybe(0.5))
    for mark in [item for item in value.values() if isinstance(item, str) and item[:1] == "<" and item[-1:] == ">"]:
        text = text.replace(f'"{mark}"', _value(draws), 1)
    return text.encode(errors="surrogatepass")


def _value(draws: Draws) -> str:
    match draws.randrange(8):
        case 0:
            return draws.choice(NUMBERS)
        case 1:
            return draws.choice(VALUES)
        case 2:
            return json.dumps(draws.choice(TIMES))
        case 3:
            return json.dumps(draws.choice(CODES))
        case 4:
            opened = draws.choice(('{"a":', "["))
            depth = draws.choice((2, 20, 33, 200, 100_000))
            return opened * depth + "1" + ("}" if opened[0] == "{" else "]") * depth
        case 5:
            inner = f'"bits":{draws.choice(("1", "4", "8", "3", *NUMBERS))},"code":"{draws.choice(CODES)}"'
            return f'{{{inner},"scale":{draws.choice(("0.5", "0", *NUMBERS))}}}'
        case 6:
            return f'{{"session":{draws.choice(VALUES)},"entities":{draws.choice(VALUES)},"n":{draws.choice(NUMBERS)}}}'
        case _:
            return json.dumps(draws.text()[:3000])


def _with_twice(draws: Draws, line: bytes) -> bytes:
    """A key that is there twice."""
    if not line.endswith(b"}"):
        return line
    key = draws.choice(("type", "id", "key", "text", "weight", "name", "observations", "source"))
    return line[:-1] + f',"{key}":{_value(draws)}}}'.encode(errors="surrogatepass")


def mcp_lines() -> list[bytes]:
    """A good file of the other format."""
    entities = [
        {
            "type": "entity",
            "name": f"Entity {i}",
            "entityType": "person",
            "observations": [f"knows {i}", f"likes {i} km"],
        }
        for i in range(5)
    ]
    relations = [
        {"type": "relation", "from": f"Entity {i}", "to": f"Entity {i + 1}", "relationType": "knows"} for i in range(4)
    ]
    return [json.dumps(line).encode() for line in (*entities, *relations)]
