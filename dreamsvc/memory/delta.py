"""What a committed change means for the live graph."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.v1.operations_pb2 import Expansion
from dreamsvc.memory.graph import NewEdge, NewNode, PackedContainer, RoleChange, SpaceGraph


@dataclass(slots=True)
class Delta:
    """Filled inside a transaction, applied once it is durable; ids are row ids of nodes and edges."""

    new_nodes: list[NewNode] = field(default_factory=list[NewNode])
    changed_nodes: list[NewNode] = field(default_factory=list[NewNode])
    # Only importance and times changed.
    inherited: list[NewNode] = field(default_factory=list[NewNode])
    hidden_nodes: list[int] = field(default_factory=list[int])
    # What gets its words back is among changed_nodes instead.
    roles: list[RoleChange] = field(default_factory=list[RoleChange])
    vectors: dict[int, NDArray[np.floating[Any]]] = field(default_factory=dict[int, NDArray[np.floating[Any]]])
    containers: dict[int, PackedContainer] = field(default_factory=dict[int, PackedContainer])
    # An empty one takes away what there was.
    expansions: dict[int, Expansion] = field(default_factory=dict[int, Expansion])
    new_edges: list[NewEdge] = field(default_factory=list[NewEdge])
    changed_edges: list[NewEdge] = field(default_factory=list[NewEdge])

    def count(self) -> int:
        """How many memories and edges changed; what is only derived of them does not count."""
        told = (self.new_nodes, self.changed_nodes, self.inherited, self.roles)
        nodes = {one.id for changed in told for one in changed}.union(self.hidden_nodes)
        edges = {one.id for changed in (self.new_edges, self.changed_edges) for one in changed}
        return len(nodes) + len(edges)

    def apply(self, graph: SpaceGraph) -> None:
        """Changes the live graph; readers see all of it at once."""
        with graph.at_once():
            self._apply_nodes(graph)
            self._apply_edges(graph)

    def _apply_nodes(self, graph: SpaceGraph) -> None:
        graph.add_nodes(self.new_nodes)
        for node in self.changed_nodes:
            graph.change_node(node)
        if self.inherited:
            graph.inherit(self.inherited)
        if self.hidden_nodes:
            graph.hide_nodes(self.hidden_nodes)
        if self.roles:
            graph.set_roles(self.roles, [node for held in self.containers.values() for node in held.members])
        if self.vectors:
            graph.set_vectors(list(self.vectors), np.stack(list(self.vectors.values())).astype(np.float32))
        if self.containers:
            graph.add_containers(self.containers)
        graph.set_expansions(list(self.expansions.values()))

    def _apply_edges(self, graph: SpaceGraph) -> None:
        graph.add_edges(self.new_edges)
        if self.changed_edges:
            graph.set_edges(
                [edge.id for edge in self.changed_edges],
                [edge.weight for edge in self.changed_edges],
                [edge.alive for edge in self.changed_edges],
                [edge.confidence for edge in self.changed_edges],
            )
