"""The file as SQLite sees it: pages, tables, rows that cannot be read, counters."""

from collections.abc import Iterator

from dreamsvc.errors import StoreCorrupt
from dreamsvc.memory import sqlite
from dreamsvc.memory.doctor.finding import CHANGED_OUTSIDE, RESTORE, Place, Problem, Said
from dreamsvc.memory.sqlite import Connection, translated

# How SQLite tells of a page that does not match its checksum, and what its lines begin with.
_UNREADABLE, _HEAD = "unable to get the page. error code=8202", "*** in database main ***\n"
# What no id of a table is above, in `meta`.
_COUNTERS = {"nodes": "next_node", "edges": "next_edge"}
_BY_NODE = ("vectors", "packed_vectors", "expansions", "positions")
MOST_NAMED = 20


def pages(place: Place) -> Said:
    """All pages that are in use; where one is damaged, which rows went with it."""
    damaged = False
    try:
        with translated():
            for (line,) in place.connection.execute("PRAGMA integrity_check(20)"):
                if line != "ok":
                    damaged = True
                    yield Problem(
                        line.removeprefix(_HEAD).replace(_UNREADABLE, "it does not match its checksum"), RESTORE
                    )
            for row in place.connection.execute("PRAGMA foreign_key_check"):
                yield Problem(f"a row of {row[0]} points at nothing", RESTORE)
    except StoreCorrupt as error:
        damaged = True
        yield Problem(error.message, RESTORE)
    if damaged:
        for table, first, last in _unreadable(place.connection):
            yield Problem(
                f"{table}: {_span(first, last)} cannot be read{_whose(place.connection, table, first, last)}", RESTORE
            )


def schema(place: Place) -> Said:
    """Tables, indexes and triggers are those that this version makes."""
    there = sqlite.objects_of(place.connection)
    for name, made in sqlite.expected_objects().items():
        if name not in there:
            yield Problem(f"{name} is missing", CHANGED_OUTSIDE)
        elif there[name] != made:
            yield Problem(f"{name} was changed", CHANGED_OUTSIDE)


def counters(place: Place) -> Said:
    connection = place.connection
    highest = "SELECT (SELECT value FROM meta WHERE key = ?) > ifnull((SELECT max({0}) FROM {1}), -1)"
    for counter, column, table in (("next_node", "id", "nodes"), ("next_edge", "id", "edges")):
        if connection.execute(highest.format(column, table), (counter,)).fetchone() != (1,):
            yield Problem(f"{counter} is not above every id of {table}", RESTORE)
    for table in ("nodes", "edges", "audit"):
        query = f"SELECT ifnull(max(seq), 0) <= (SELECT value FROM meta WHERE key = 'change_seq') FROM {table}"
        if connection.execute(query).fetchone() != (1,):
            yield Problem(f"a row of {table} is newer than the last change", RESTORE)
    query = "SELECT c.id, s.name FROM changes c JOIN spaces s ON s.id = c.space WHERE c.base_changes > s.user_changes"
    for change, space in connection.execute(query):
        yield Problem(f'space "{space}" was changed less often than when change {change} began', RESTORE)


def _unreadable(connection: Connection) -> Iterator[tuple[str, int, int]]:
    """Tables with the first and the last row id of each stretch of rows that cannot be read."""
    for name, columns in _tables(connection):
        try:
            bounds = _bounds(connection, name)
        except StoreCorrupt:
            yield name, 0, -1
            continue
        if bounds is not None:
            yield from ((name, *span) for span in _joined(_search(connection, name, columns, *bounds)))


def _tables(connection: Connection) -> list[tuple[str, str]]:
    """Tables with row ids, and what reads all of a row."""
    found: list[tuple[str, str]] = []
    for (name,) in connection.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND wr = 0"
        " AND name NOT LIKE 'sqlite_%' ORDER BY name"
    ).fetchall():
        columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')]
        found.append((name, ",".join(f'max("{column}")' for column in columns)))
    return found


def _bounds(connection: Connection, table: str) -> tuple[int, int] | None:
    """No row id lies outside of these; None where there is none. Raises StoreCorrupt where they cannot be read."""
    with translated():
        counter = "next_node" if table in _BY_NODE else _COUNTERS.get(table)
        if counter is not None:
            (following,) = connection.execute("SELECT value FROM meta WHERE key = ?", (counter,)).fetchone()
            return (1, following - 1) if following > 1 else None
        first, last = connection.execute(
            f'SELECT (SELECT rowid FROM "{table}" NOT INDEXED ORDER BY rowid LIMIT 1),'
            f' (SELECT rowid FROM "{table}" NOT INDEXED ORDER BY rowid DESC LIMIT 1)'
        ).fetchone()
        return None if first is None else (first, last)


def _search(connection: Connection, table: str, columns: str, first: int, last: int) -> Iterator[tuple[int, int]]:
    try:
        with translated():
            query = f'SELECT {columns} FROM "{table}" NOT INDEXED WHERE rowid BETWEEN ? AND ?'
            connection.execute(query, (first, last)).fetchall()
    except StoreCorrupt:
        if first == last:
            yield first, last
            return
        middle = (first + last) // 2
        yield from _search(connection, table, columns, first, middle)
        yield from _search(connection, table, columns, middle + 1, last)


def _joined(spans: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    held: tuple[int, int] | None = None
    for first, last in spans:
        if held is not None and first == held[1] + 1:
            held = (held[0], last)
            continue
        if held is not None:
            yield held
        held = (first, last)
    if held is not None:
        yield held


def _span(first: int, last: int) -> str:
    if last < first:
        return "its rows"
    return f"row {first}" if first == last else f"rows {first} to {last}"


def _whose(connection: Connection, table: str, first: int, last: int) -> str:
    """Keys of memories in a stretch of rows, by an index that is not damaged itself; '' where there is none."""
    if table != "nodes":
        return ""
    query = (
        "SELECT key FROM nodes INDEXED BY nodes_key WHERE key IS NOT NULL AND id BETWEEN ? AND ?"
        f" ORDER BY id LIMIT {MOST_NAMED + 1}"
    )
    try:
        with translated():
            keys = [key for (key,) in connection.execute(query, (first, last))]
    except StoreCorrupt:
        return ""
    shown = ", ".join(f'"{key}"' for key in keys[:MOST_NAMED])
    return f", with the memories {shown}{' and more' if len(keys) > MOST_NAMED else ''}" if keys else ""
