"""What the memories' texts say, read only when somebody asks, and how much of them is read at a time."""

from collections.abc import Iterator, Sequence

from dreamsvc.dreamer.memories import Memories
from dreamsvc.evidence import Signature, signature

# A signature takes 3 KB for a sentence, 15 KB for a paragraph: those asked for last stay.
KEPT = 4_096
# A signature takes about 0.7 us a byte, so that one of a megabyte could not be left in between.
LONGEST_BYTES = 16_384


class Readings:
    """Signatures by row, over title and text."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories
        self._bytes = memories.titles.sizes() + memories.texts.sizes()
        self._read: dict[int, Signature] = {}

    def __getitem__(self, row: int) -> Signature:
        found = self._read.pop(row, None)
        if found is None:
            found = signature(self._memories.words(row))
            if len(self._read) >= KEPT:
                del self._read[next(iter(self._read))]
        self._read[row] = found  # behind all others, so that the first is the one that nobody asked for
        return found

    def size(self, row: int) -> int:
        """Bytes of title and text."""
        return int(self._bytes[row])

    def is_long(self, row: int) -> bool:
        """Whether the text is too long to be compared with others in other words: only a copy of it is one."""
        return self.size(row) > LONGEST_BYTES

    def portions(self, rows: Sequence[int], most_bytes: int) -> Iterator[Sequence[int]]:
        """The rows in order, in runs of at most so many bytes of text, or of one row."""
        start = total = 0
        for place, row in enumerate(rows):
            # A short text costs its call.
            size = self.size(row) + 64
            if total + size > most_bytes and place > start:
                yield rows[start:place]
                start, total = place, 0
            total += size
        if start < len(rows):
            yield rows[start:]
