"""What a committed change means for the live graph."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamsvc.memory.graph import NewEdge, NewNode, SpaceGraph


@dataclass(slots=True)
class Delta:
    """Filled inside a transaction, applied once it is durable."""

    new_nodes: list[NewNode] = field(default_factory=list[NewNode])
    changed_nodes: list[NewNode] = field(default_factory=list[NewNode])
    hidden_nodes: list[int] = field(default_factory=list[int])
    vectors: dict[int, NDArray[np.floating[Any]]] = field(default_factory=dict[int, NDArray[np.floating[Any]]])
    new_edges: list[NewEdge] = field(default_factory=list[NewEdge])
    changed_edges: list[NewEdge] = field(default_factory=list[NewEdge])

    def count(self) -> int:
        """How many memories and edges changed."""
        nodes = len(self.new_nodes) + len(self.changed_nodes) + len(self.hidden_nodes)
        return nodes + len(self.new_edges) + len(self.changed_edges)

    def apply(self, graph: SpaceGraph) -> None:
        graph.add_nodes(self.new_nodes)
        for node in self.changed_nodes:
            graph.change_node(node)
        if self.hidden_nodes:
            graph.hide_nodes(self.hidden_nodes)
        if self.vectors:
            graph.set_vectors(list(self.vectors), np.stack(list(self.vectors.values())).astype(np.float32))
        graph.add_edges(self.new_edges)
        if self.changed_edges:
            graph.set_edges(
                [edge.id for edge in self.changed_edges],
                [edge.weight for edge in self.changed_edges],
                [edge.alive for edge in self.changed_edges],
                [edge.confidence for edge in self.changed_edges],
            )
