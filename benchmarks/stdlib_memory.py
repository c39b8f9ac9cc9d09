"""The memory of an agent that read the documentation of this machine's Python standard library.

    python benchmarks/stdlib_memory.py OUT [--limit 6000]

Every module, class, function and method with a docstring is a memory; an edge says that one is a member of another,
or that its docstring mentions it. Reads the library's source by `ast`: nothing of it is imported or run.
"""

import argparse
import ast
import hashlib
import inspect
import json
import math
import re
import sysconfig
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dreamsvc import clock

LIMIT = 6000
TEXT_CHARS = 1200
READING_DAYS = 30

# The floor below which a mention is no evidence; a dream that weakens an edge to it prunes it.
LEAST_WEIGHT = 0.05
MOST_MENTIONS = 32

# Not what an agent reads to learn the library.
EXCLUDED = {
    *("antigravity", "encodings", "ensurepip", "idlelib", "lib2to3", "ntpath", "nturl2path", "pydoc_data"),
    *("site-packages", "test", "tests", "this", "tkinter", "turtle", "turtledemo"),
}
# Where the source of a public module lies under another name.
PUBLIC_NAMES = {
    "_collections_abc": "collections.abc",
    "_pydatetime": "datetime",
    "_pydecimal": "decimal",
    "_pyio": "io",
    "genericpath": "os.path",
    "posixpath": "os.path",
}

_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?:\(\))?")


class Entry(NamedTuple):
    """One thing of the library that is worth a memory."""

    name: str
    kind: str
    signature: str
    docstring: str


class Mention(NamedTuple):
    target: str
    # How sure it is that the word means the target, 0 to 1.
    confidence: float
    # Evidence: sure, of a rare word, and repeated is much.
    weight: float


class Counts(NamedTuple):
    memories: int
    edges: int
    modules: int


def write(path: Path, now_us: int, limit: int = LIMIT) -> Counts:
    """Writes the memory as dreamsvc JSON lines; the same library, `now_us` and limit give the same bytes."""
    entries = read_library(limit)
    names = Names(entries)
    edges = [*_member_edges(entries, names), *_mention_edges(entries, names)]
    importance = _importance(entries, edges)
    with path.open("w", encoding="utf-8") as out:
        for position, entry in enumerate(entries):
            age_us = READING_DAYS * 86_400_000_000 * (len(entries) - position) // len(entries)
            line = {
                "type": "memory",
                "key": f"py:{entry.name}",
                "kind": entry.kind,
                "title": entry.name,
                "text": f"{entry.signature}\n{_cut(entry.docstring)}".strip(),
                "aliases": names.aliases(entry),
                "importance": importance[entry.name],
                "event_time": clock.iso(now_us - age_us),
            }
            print(json.dumps(line), file=out)
        for edge in edges:
            print(json.dumps(edge), file=out)
    return Counts(len(entries), len(edges), sum(entry.kind == "module" for entry in entries))


# Reading


def read_library(limit: int = LIMIT) -> list[Entry]:
    """All that has a docstring, in reading order: module by module. Methods beyond the limit are left out evenly."""
    found: dict[str, Entry] = {}
    root = Path(sysconfig.get_paths()["stdlib"])
    for module, path in sorted(_modules(root)):
        for entry in _read_module(module, path):
            known = found.get(entry.name)
            # Two files may make one module, and two branches one function: the first that says something counts.
            if known is None or (entry.docstring and not known.docstring):
                found[entry.name] = entry
    told = [entry for entry in found.values() if entry.docstring]
    told.sort(key=lambda entry: (entry.kind == "method", hashlib.sha256(entry.name.encode()).digest()))
    kept = {entry.name for entry in told[:limit]}
    # Modules by name, and each thing after what it belongs to.
    return sorted((entry for entry in told if entry.name in kept), key=lambda entry: entry.name.split("."))


def _modules(root: Path) -> Iterator[tuple[str, Path]]:
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        name = PUBLIC_NAMES.get(".".join(parts)) or ".".join(parts)
        public = all(part.isidentifier() and not part.startswith("_") for part in name.split("."))
        if public and not EXCLUDED.intersection(parts):
            yield name, path


def _read_module(module: str, path: Path) -> Iterator[Entry]:
    try:
        with warnings.catch_warnings():
            # Old escapes in the library's own strings are not our business.
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes(), filename=str(path))
    except (OSError, SyntaxError, ValueError):
        return
    yield Entry(module, "module", f"module {module}", _docstring(tree))
    yield from _read_body(tree.body, module, "function")


def _read_body(body: Sequence[ast.stmt], scope: str, kind: str) -> Iterator[Entry]:
    for node in body:
        match node:
            case ast.ClassDef() if not node.name.startswith("_"):
                name = f"{scope}.{node.name}"
                bases = ", ".join(ast.unparse(base) for base in node.bases)
                yield Entry(name, "class", f"class {name}({bases})" if bases else f"class {name}", _docstring(node))
                yield from _read_body(node.body, name, "method")
            case ast.FunctionDef() | ast.AsyncFunctionDef() if not node.name.startswith("_"):
                name = f"{scope}.{node.name}"
                yield Entry(name, kind, f"{name}({_arguments(node)})", _docstring(node))
            case ast.If():
                yield from _read_body([*node.body, *node.orelse], scope, kind)
            case ast.Try():
                branches = [*node.body, *(line for handler in node.handlers for line in handler.body), *node.orelse]
                yield from _read_body(branches, scope, kind)
            case _:
                pass


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return inspect.cleandoc(ast.get_docstring(node, clean=False) or "").strip()


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    arguments = ast.unparse(node.args)
    return arguments.removeprefix("self, ").removeprefix("self")


def _cut(text: str) -> str:
    if len(text) <= TEXT_CHARS:
        return text
    return text[:TEXT_CHARS].rsplit(maxsplit=1)[0].rstrip() + " ..."


# Who mentions whom


class Names:
    """What a word in a docstring may mean."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._kinds = {entry.name: entry.kind for entry in entries}
        self._by_tail: dict[str, list[str]] = defaultdict(list)
        for entry in entries:
            parts = entry.name.split(".")
            for length in (1, 2):
                if len(parts) > length:
                    self._by_tail[".".join(parts[-length:])].append(entry.name)
        self._documents = len(entries)
        self._frequency = Counter(word for entry in entries for word in set(_words(entry.docstring)))

    def parent(self, name: str) -> str | None:
        """The nearest class or module around it that is a memory too."""
        while "." in name:
            name = name.rpartition(".")[0]
            if name in self._kinds:
                return name
        return None

    def aliases(self, entry: Entry) -> list[str]:
        """Short names that nobody means anything else by."""
        parts = entry.name.split(".")
        tails = (parts[-1] if _looks_like_code(parts[-1]) else "", ".".join(parts[-2:]) if len(parts) > 2 else "")
        return [tail for tail in tails if tail and self._by_tail.get(tail) == [entry.name]]

    def mentions(self, entry: Entry) -> list[Mention]:
        best: dict[str, Mention] = {}
        for word, times in Counter(_words(entry.docstring)).items():
            target, confidence = self._meaning(word, entry)
            if not target or target in (entry.name, self.parent(entry.name)) or self.parent(target) == entry.name:
                continue
            rarity = 1 - math.log(self._frequency[word]) / math.log(self._documents + 1)
            weight = round(0.95 * confidence * rarity**1.5 * min(1.0, 0.8 + 0.1 * times), 4)
            if weight >= LEAST_WEIGHT and (target not in best or best[target].weight < weight):
                best[target] = Mention(target, confidence, weight)
        return sorted(best.values(), key=lambda mention: (-mention.weight, mention.target))[:MOST_MENTIONS]

    def _meaning(self, word: str, entry: Entry) -> tuple[str, float]:
        """The memory that a word means, and how sure that is; ("", 0) for an ordinary word."""
        code = _looks_like_code(word)
        bare = word.removesuffix("()")
        if bare in self._kinds and "." in bare:
            return bare, 1.0
        scope: str | None = entry.name
        while scope is not None:
            near = f"{scope}.{bare}"
            if near in self._kinds:
                return near, 0.9 if code else 0.4
            scope = self.parent(scope)
        candidates = self._by_tail.get(bare, [])
        if len(candidates) == 1 and (code or len(bare) > 4):
            return candidates[0], 0.8 if code else 0.3
        if bare in self._kinds and len(bare) > 3:
            # A module with an ordinary word for a name.
            return bare, 0.3
        return "", 0.0


def _words(text: str) -> list[str]:
    return _NAME.findall(text)


def _looks_like_code(word: str) -> bool:
    """E.g. literal_eval, OrderedDict, join(), os.path; not Counter, join."""
    return "_" in word.strip("_") or "." in word or word.endswith("()") or bool(re.search(r"[a-z][A-Z]", word))


# Edges


def _member_edges(entries: Sequence[Entry], names: Names) -> Iterator[dict[str, Any]]:
    parents = {entry.name: parent for entry in entries if (parent := names.parent(entry.name))}
    members = Counter(parents.values())
    for name, parent in parents.items():
        # One of three members says more about its class than one of three hundred about its module.
        yield _edge(name, parent, "member_of", round(max(0.25, 0.9 - 0.08 * math.log2(members[parent])), 4), 1.0)


def _mention_edges(entries: Sequence[Entry], names: Names) -> Iterator[dict[str, Any]]:
    for entry in entries:
        for mention in names.mentions(entry):
            yield _edge(entry.name, mention.target, "mentions", mention.weight, mention.confidence)


def _edge(source: str, target: str, edge_type: str, weight: float, confidence: float) -> dict[str, Any]:
    return {
        "type": "edge",
        "source": f"py:{source}",
        "target": f"py:{target}",
        "edge_type": edge_type,
        "weight": weight,
        "confidence": confidence,
    }


def _importance(entries: Sequence[Entry], edges: Sequence[dict[str, Any]]) -> dict[str, float]:
    """0.2 for what nothing points to, up to 1 for what most points to, on a log scale."""
    incoming: defaultdict[str, float] = defaultdict(float)
    for edge in edges:
        # Units of a quarter: one fair mention already lifts a memory off the ground.
        incoming[edge["target"].removeprefix("py:")] += 4 * edge["weight"]
    most = math.log1p(max(incoming.values(), default=1))
    return {entry.name: round(0.2 + 0.8 * math.log1p(incoming[entry.name]) / most, 4) for entry in entries}


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the memory of an agent that read the standard library's docs.")
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--limit", type=int, default=LIMIT, help=f"most memories (default: {LIMIT})")
    args = parser.parse_args()
    counts = write(args.out, clock.Clock().now_us(), args.limit)
    print(f"{args.out}: {counts.memories} memories ({counts.modules} modules), {counts.edges} edges")


if __name__ == "__main__":
    main()
