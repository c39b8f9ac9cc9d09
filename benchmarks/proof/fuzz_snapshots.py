"""Snapshots, which are files of arrays beside the store, and manifests of backups: damaged ones count as absent, or are
refused with a reason, whatever their bytes say."""

import io
import json
import shutil
import zlib
from pathlib import Path

import numpy as np

from benchmarks.proof import fuzz_world
from benchmarks.proof.fuzz_draws import Draws
from benchmarks.proof.fuzz_files import NUMBERS, VALUES
from benchmarks.proof.fuzz_parts import directory
from benchmarks.proof.fuzz_watch import Broken, Watch
from benchmarks.proof.jumping_clock import JumpingClock
from benchmarks.proof.opened import Opened
from dreamsvc import snapshot_files
from dreamsvc.errors import DreamsvcError
from dreamsvc.memory import manifest
from dreamsvc.memory.manifest import Content, Manifest, SpaceContent
from dreamsvc.snapshot_files import Arrays

ARRAYS: Arrays = {
    "node_ids": np.arange(40, dtype=np.int64),
    "alive": np.ones(40, np.bool_),
    "weights": np.linspace(0, 1, 60, dtype=np.float32),
    "points": np.zeros((40, 2), np.float32),
    "titles": np.frombuffer(b"some text", np.uint8),
    "empty": np.zeros(0, np.int32),
}
SPACE = SpaceContent("default", 3, 2, 1, "0" * 64)
MANIFEST = Manifest(
    Content(4, 17, 1_700_000_000_000_000, {"nodes": 3}, (SPACE,)), 1_700_000_000_000_000, "1", "h", "/x", 9, "0" * 64
)
# Headers of arrays, as they stand behind the magic; what numpy makes of them is its own affair.
HEADERS = (
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': 7, }",
    "{'descr': [('a', '<f4'), ('b', '|O')], 'fortran_order': False, 'shape': (2,), }",
    "{'descr': '<f4'}",
    "{" * 3000,
    "(" * 3000,
    "__import__('os')",
    "",
)


class SnapshotsTarget:
    name = "snapshots"
    size = 1500

    def __init__(self) -> None:
        self._home = directory()
        self._world = fuzz_world.World()

    def close(self) -> None:
        shutil.rmtree(self._home, ignore_errors=True)
        self._world.close()

    def batch(self, watch: Watch, cases: int) -> None:
        draws = Draws(f"snapshots {watch.seed}")
        place = self._home / "snapshot"
        while watch.cases < cases:
            if draws.maybe(0.01):
                with watch.case("start"):
                    watch.ended(self._starts(draws))
            elif draws.maybe(0.4):
                with watch.case("manifest"):
                    watch.ended(_manifest(self._home / "backup", draws))
            else:
                snapshot_files.write(place, 7, ARRAYS)
                with watch.case("snapshot"):
                    watch.ended(_snapshot(place, draws))

    def _starts(self, draws: Draws) -> str:
        """A store beside whose snapshot somebody wrote: it opens, and knows what its rows say."""
        path = self._world.copy()
        shot = draws.choice(sorted(path.with_name(path.name + ".snapshots").glob("start-*")))
        lies = draws.maybe(0.5)
        if lies:
            _lie(shot, draws)
        else:
            file = draws.choice(sorted(shot.iterdir()))
            file.write_bytes(draws.damaged(file.read_bytes(), b"\0" * 64))
        opened = Opened(path, JumpingClock())
        try:
            if not lies:
                # A lie that fits is believed, as whoever can tell it can write to the database too.
                fuzz_world.require_order(opened.store)
        finally:
            opened.abandon()
            self._world.forget(path)
        return "started"


def _snapshot(place: Path, draws: Draws) -> str:
    lies = draws.maybe(0.5)
    if lies:
        _lie(place, draws)
    else:
        file = draws.choice(sorted(place.iterdir()))
        match draws.randrange(6):
            case 0:
                file.unlink()
            case 1:
                file.write_bytes(b"")
            case 2 if file.name == snapshot_files.MANIFEST:
                file.write_text(_told(draws), errors="surrogatepass")
            case _:
                file.write_bytes(draws.damaged(file.read_bytes(), b"\0" * 64))
    snapshot_files.shows(place)
    found = snapshot_files.read(place, 7)
    if found is None:
        return "absent"
    if not lies and any(not np.array_equal(found[name], array) for name, array in ARRAYS.items() if name in found):
        raise Broken("damaged arrays were read")
    for array in found.values():
        array.tobytes()
    return "read"


def _lie(place: Path, draws: Draws) -> None:
    """Nonsense with its checksums: an array that is none, another one, or a manifest that names what is not there."""
    told = json.loads((place / snapshot_files.MANIFEST).read_text())
    del told["own_crc"]
    name = draws.choice(sorted(told["crc"]))
    body = draws.choice(
        (_array(draws), _headed(draws), draws.randbytes(40), draws.damaged((place / f"{name}.npy").read_bytes()))
    )
    (place / f"{name}.npy").write_bytes(body)
    told["crc"][name] = zlib.crc32(body)
    if draws.maybe(0.1):
        told["crc"][draws.choice(("../x", "/etc/passwd", "a\0b", "x" * 300, ""))] = 0
    if draws.maybe(0.1):
        del told["crc"][draws.choice(sorted(told["crc"]))]
    (place / snapshot_files.MANIFEST).write_text(json.dumps(told | {"own_crc": snapshot_files._own(told)}))


def _array(draws: Draws) -> bytes:
    file = io.BytesIO()
    kind = draws.choice((np.int64, np.float32, np.uint8, np.complex64, "S3", np.bool_))
    np.save(file, np.zeros(draws.choice((0, 1, 3, (2, 2), (0, 3))), kind))
    return file.getvalue()


def _headed(draws: Draws) -> bytes:
    header = draws.choice(HEADERS).encode()
    size = draws.choice((len(header), len(header) + 7, 2**16 - 1))
    return (
        b"\x93NUMPY"
        + bytes(draws.choice(((1, 0), (2, 0), (9, 9))))
        + (size % 2**16).to_bytes(2, "little")
        + header
        + bytes(80)
    )


def _told(draws: Draws) -> str:
    crc = draws.choice((*VALUES, '{"node_ids": "x"}', '{"node_ids": 1e400}', '{"\\u0000": 1}', '{"": 0}'))
    number = draws.choice(("7", *NUMBERS))
    return draws.choice(
        ("[" * 100_000, '{"a":' * 5000, f'{{"format": {snapshot_files.FORMAT}, "seq": {number}, "crc": {crc}}}', crc)
    )


def _manifest(place: Path, draws: Draws) -> str:
    place.mkdir(exist_ok=True)
    text = manifest.text_of(MANIFEST)
    told = manifest.to_dict(MANIFEST)
    match draws.randrange(6):
        case 0 | 1:
            body = draws.damaged(text.encode(), text.encode())
        case 2:
            body = draws.choice((b"[", b'{"a":', b'{"format":[')) * draws.choice((1, 3, 100_000))
        case 3:
            body = draws.choice((*VALUES, *NUMBERS)).encode()
        case _:
            # Sealed by somebody who knows how.
            told[draws.choice(sorted(told))] = draws.choice(
                (None, -1, 2**70, 1e308, float("inf"), "x", [], {}, [{}], [[]], "9" * 50)
            )
            number = draws.choice((manifest.FORMAT, 0, 99, None, "x", [1]))
            body = (
                json.dumps(
                    {"format": number, **told, "manifest_sha256": manifest.seal(number, told)}, indent=1
                ).encode()
                + b"\n"
            )
    (place / manifest.NAME).write_bytes(body)
    try:
        found = manifest.read(place)
    except DreamsvcError as error:
        return "refused" if error.message else ""
    if manifest.text_of(found).encode() != body:
        raise Broken("another manifest was read than was written")
    return "read"
