"""What is left to dream of after a dream: whether users changed anything since it began, and what they added."""

import asyncio
from typing import NamedTuple

from dreamsvc.memory.journal import Journal
from dreamsvc.memory.sqlite import ChangeId
from dreamsvc.memory.store import Store


class Seen(NamedTuple):
    """What is left to dream of after a dream."""

    # Nothing: users changed nothing since it began.
    all_dreamt: bool
    # The newest memory that it knew; what is newer is news.
    newest: int


async def seen_by(change: ChangeId, space: str, store: Store, journal: Journal) -> Seen:
    """Looked up behind what users have queued."""
    changed = await asyncio.wrap_future(journal.changed_since(change))
    if changed:
        return Seen(False, await asyncio.to_thread(journal.newest_node_known, change))
    view = store.graph(space).view
    return Seen(True, int(view.node_ids[view.n - 1]) if view.n else 0)


UNKNOWN = Seen(False, 0)
