"""Arrays as files, one .npy each: how a moment of the memory crosses to the dreamer and to the next start.

A snapshot is written aside and renamed, so one that exists is whole. Its manifest holds the
change it shows, a checksum of every file and one of itself; one that does not match counts as
absent, since nothing is lost with it.
"""

import json
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

type Arrays = dict[str, NDArray[Any]]

FORMAT = 4
MANIFEST = "manifest.json"
# What a dream reads: columns of n nodes and of m edges, node and edge ids ascending, sources and
# targets as rows of the nodes, times in wall-clock microseconds, -1 for never.
DREAM_NODES = ("node_ids", "alive", "importance", "created_us", "accessed_us", "roles", "merged_into")
DREAM_EDGES = ("edge_ids", "sources", "targets", "weights", "edges_alive", "confidences", "types")


class UnreadableSnapshot(Exception):
    """A snapshot that a dream should read is not there or damaged."""


def write(directory: Path, seq: int, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Makes `directory` hold these arrays, or leaves what was there; raises OSError."""
    aside = directory.with_name(directory.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True, mode=0o700)
    try:
        checksums: dict[str, int] = {}
        for name, array in arrays.items():
            np.save(aside / f"{name}.npy", np.ascontiguousarray(array))
            checksums[name] = _checksum(aside / f"{name}.npy")
        manifest = {"format": FORMAT, "seq": seq, "crc": checksums}
        (aside / MANIFEST).write_text(json.dumps(manifest | {"own_crc": _own(manifest)}))
        shutil.rmtree(directory, ignore_errors=True)
        os.rename(aside, directory)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def read(directory: Path, seq: int | None = None) -> Arrays | None:
    """The arrays, mapped; None where the snapshot is absent, damaged, or shows another change than `seq`."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text())
        if manifest["format"] != FORMAT or (seq is not None and manifest["seq"] != seq):
            return None
        if manifest.pop("own_crc") != _own(manifest):
            return None
        arrays: Arrays = {}
        for name, checksum in manifest["crc"].items():
            # Before it is read as an array: what numpy makes of a damaged header is anybody's guess.
            if _checksum(directory / f"{name}.npy") != checksum:
                return None
            arrays[name] = np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return arrays
    except Exception:
        # No list of errors is long enough for what JSON and numpy raise over bytes that somebody made up.
        return None


def shows(directory: Path) -> int | None:
    """The change that a snapshot is of, whole or not; None where its manifest does not say."""
    try:
        return int(json.loads((directory / MANIFEST).read_text())["seq"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def _own(manifest: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())


def _checksum(path: Path) -> int:
    return zlib.crc32(np.memmap(path, np.uint8, "r").data)
