"""Blocks of facets as arrays, the form in which they lie in snapshots. C: containers. F: facets. D: dimensions."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dreamsvc.facet_codes import Bits, Centroid, FacetCodes, code_bytes
from dreamsvc.two_stage import Block

PREFIX = "facets."


def pack(blocks: Mapping[int, Block], dimension: int) -> dict[str, NDArray[Any]]:
    """Arrays of some containers by row: rows [C], counts [C], bits [C], centroids [C, D], steps [C], facet rows [F],
    scales [F], and all codes one after the other."""
    held = list(blocks.values())
    return {
        f"{PREFIX}containers": np.fromiter(blocks, np.int32, len(blocks)),
        f"{PREFIX}counts": np.array([len(block.rows) for block in held], np.int32),
        f"{PREFIX}bits": np.array([block.bits for block in held], np.uint8),
        f"{PREFIX}centroids": np.array([block.centroid.codes for block in held], np.int8).reshape(len(held), dimension),
        f"{PREFIX}steps": np.array([block.centroid.scale for block in held], np.float32),
        f"{PREFIX}rows": np.concatenate([np.zeros(0, np.int32), *(block.rows for block in held)]),
        f"{PREFIX}scales": np.concatenate([np.zeros(0, np.float16), *(block.facets.scales for block in held)]),
        f"{PREFIX}codes": np.concatenate([np.zeros(0, np.uint8), *(block.facets.codes.ravel() for block in held)]),
    }


def unpack(arrays: Mapping[str, NDArray[Any]]) -> dict[int, Block]:
    """The containers that `pack` put into arrays; copies, so that the arrays may go."""
    centroids = np.array(arrays[f"{PREFIX}centroids"])
    dimension = centroids.shape[1]
    rows, scales, codes = (np.array(arrays[f"{PREFIX}{name}"]) for name in ("rows", "scales", "codes"))
    found: dict[int, Block] = {}
    at = code_at = 0
    for place, (container, count, bits, step) in enumerate(
        zip(*(arrays[f"{PREFIX}{name}"].tolist() for name in ("containers", "counts", "bits", "steps")), strict=True)
    ):
        width = code_bytes(dimension, bits)
        found[container] = Block(
            rows=rows[at : at + count],
            facets=FacetCodes(codes[code_at : code_at + count * width].reshape(count, width), scales[at : at + count]),
            bits=cast("Bits", bits),
            centroid=Centroid(centroids[place], np.float32(step)),
        )
        at, code_at = at + count, code_at + count * width
    return found
