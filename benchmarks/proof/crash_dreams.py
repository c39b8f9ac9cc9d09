"""Dreams that wait in a store to be applied and taken back, and what their spaces must hold in each state."""

import contextlib
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.proof.crash_facts import PREFIX, Found
from dreamsvc.memory import dreams, export, operations, spaces
from dreamsvc.memory.operations import COMPACTED
from dreamsvc.memory.sqlite import Connection, open_read_only
from dreamsvc.v1.dream_pb2 import Dream

# What depends on when something was done, or on who asked for it since.
_TIMES = ("create_time", "update_time", "access_time", "access_count")
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HALFWAY = {Dream.STATE_SUCCEEDED: Dream.STATE_FOLDING, Dream.STATE_REVERTED: Dream.STATE_REVERTING}


@dataclass
class Proposal:
    """A dream that was dreamed to its end and not applied. Nobody writes to the memories that it would change."""

    space: str
    dream_id: str
    # Digests of the space's contents without and with the dream, which was folded without a kill to know that.
    before: str
    after: str
    state: int = Dream.STATE_PROPOSED
    # Where a decision without an answer leads.
    deciding: int | None = None

    @property
    def contents(self) -> str:
        return self.after if self.state == Dream.STATE_SUCCEEDED else self.before


def contents(connection: Connection, name: str) -> str:
    """Digest of what a space exports, but for times and for what clients stored there.

    Memories that a dream made have ids that follow from the dream's; here they go by what they say.
    """
    found = [(kind, line.decode()) for kind, line in export.lines(connection, spaces.find(connection, name))]
    names: dict[str, str] = {}
    others: set[str] = set()
    for kind, line in found:
        if kind == "memory":
            told: dict[str, Any] = json.loads(line)
            names[told["id"]] = told.get("key") or f"{told['kind']}: {told.get('title', '')}: {told['text']}"
            if told.get("key", "").startswith(PREFIX):
                others.add(told["id"])
    lines: list[str] = []
    for _, line in found:
        told = json.loads(line)
        if others.isdisjoint((told.get("id"), told.get("source"), told.get("target"))):
            kept = {key: value for key, value in told.items() if key not in _TIMES}
            # Also in paths and in what stands for others.
            lines.append(_UUID.sub(lambda uid: names.get(uid[0], uid[0]), json.dumps(kept, sort_keys=True)))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def check(connection: Connection, proposals: Sequence[Proposal], found: Found, *, recovered: bool) -> None:
    """Each is in a state that it may be in, and its space holds what belongs to that state."""
    for proposal in proposals:
        row = dreams.get(connection, spaces.find(connection, proposal.space), proposal.dream_id)
        state = row.dream.state
        if not recovered and proposal.deciding and state == _HALFWAY.get(proposal.deciding):
            continue
        if state not in (proposal.state, proposal.deciding):
            found.mismatched += 1
            was, now = Dream.State.Name(proposal.state), Dream.State.Name(state)
            found.wrong.append(f"dream {proposal.dream_id} of {proposal.space} was {was} and is {now}")
            continue
        proposal.state, proposal.deciding = state, None
        if contents(connection, proposal.space) != proposal.contents:
            found.mismatched += 1
            found.wrong.append(
                f"{proposal.space} does not hold what belongs to its dream, which is {Dream.State.Name(state)}"
            )
        if state == Dream.STATE_SUCCEEDED:
            parts = operations.staged(connection, row.change, COMPACTED)
            if operations.journal_digest(parts) != row.dream.report.journal_digest:
                found.mismatched += 1
                found.wrong.append(f"the journal of dream {proposal.dream_id} is not the one in its report")


def contents_of(store: Path, space: str) -> str:
    with contextlib.closing(open_read_only(store)) as connection:
        connection.execute("BEGIN")
        return contents(connection, space)


def check_unchanged(store: Path, space: str, digest: str) -> Found:
    """What no dream was applied to is as it was."""
    if contents_of(store, space) == digest:
        return Found([])
    return Found([f"{space} is not as it was, and no dream was applied to it"], mismatched=1)


def unfinished(connection: Connection) -> list[str]:
    """What the next start has to bring to an end, by ids of dreams, and "import"."""
    rows = [
        row
        for state in (Dream.STATE_RUNNING, Dream.STATE_FOLDING, Dream.STATE_REVERTING)
        for row in dreams.in_state(connection, state)
    ]
    changes = [change for state in ("staging", "sealed") for change in operations.in_state(connection, state)]
    return [row.dream.id for row in rows] + ["import"] * any(change.kind == "import" for change in changes)


def unfinished_in(store: Path) -> list[str]:
    with contextlib.closing(open_read_only(store)) as connection:
        return unfinished(connection)
