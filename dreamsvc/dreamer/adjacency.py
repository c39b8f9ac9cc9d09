"""Which edges stand at a row, without a sort. n: rows. e: edges. k: edges wanted."""

# scipy has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from dreamsvc.dreamer.merging import Search, Step


class Adjacency(NamedTuple):
    """The edges at row i are the places indptr[i] to indptr[i+1] of `edge`."""

    indptr: NDArray[np.int64]  # [n+1]
    edge: NDArray[np.int64]  # [k], ascending at each row

    def at(self, row: int) -> NDArray[np.int64]:
        return self.edge[self.indptr[row] : self.indptr[row + 1]]

    def count(self, row: int) -> int:
        return int(self.indptr[row + 1] - self.indptr[row])


def by_end(ends: NDArray[np.int32], wanted: NDArray[np.bool_], n: int) -> Search[Adjacency]:
    """The wanted edges by one of their ends: ends [e], rows below n; wanted [e]."""
    edge = np.flatnonzero(wanted)
    yield Step("edges", 0, 1)
    # A matrix with one column an edge is filled by counting, in a tenth of the time of a stable sort.
    columns = np.arange(len(edge), dtype=np.int32)
    table = csr_array((np.ones(len(edge), np.int8), (ends[edge], columns)), shape=(n, max(1, len(edge))))
    yield Step("edges", 0, 1)
    found = Adjacency(table.indptr.astype(np.int64), edge[table.indices])
    yield Step("edges", 1, 1)
    return found
