"""What the demo shows of REM: links that a night discovered, with their evidence, and the picture of the night."""

import subprocess
import sys
from pathlib import Path

from dreamsvc_client import Client
from rich.console import Console

from dreamsvc.cli import output
from dreamsvc.v1.blind_spot_pb2 import BlindSpot
from dreamsvc.v1.dream_pb2 import DreamReport

FINDS_SHOWN = 3
NAME_LENGTH = 48


class NothingFound(Exception):
    """The night found less than the demo wants to show."""


def show(client: Client, dream_id: str, report: DreamReport, console: Console) -> int:
    """Prints the strongest finds and gives how many there are; raises NothingFound."""
    exploration = report.exploration
    verified = client.list_blind_spots(dream_id=dream_id, states=[BlindSpot.STATE_VERIFIED], page_size=1000).blind_spots
    if len(verified) < FINDS_SHOWN:
        raise NothingFound(f"the night found {len(verified)} links that evidence speaks for, not {FINDS_SHOWN}")
    for find in sorted(verified, key=lambda find: -find.confidence)[:FINDS_SHOWN]:
        ends = [output.shortened(end.text, NAME_LENGTH) for end in (find.source, find.target)]
        console.print(f"  {ends[0]}  <->  {ends[1]}", markup=False)
        console.print(
            f"    {'; '.join(find.evidence)} (cosine distance {find.semantic_distance:.2f},"
            f" confidence {find.confidence:.2f})",
            markup=False,
        )
    console.print(
        f"  {len(verified)} such finds; besides, {exploration.linking.links:,} links by what memories say of each other"
    )
    return len(verified)


def draw(target: str, dream_id: str, picture: Path, console: Console) -> None:
    """Has `dreamsvc draw` make the picture; raises NothingFound where it fails."""
    picture.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "dreamsvc", "draw", dream_id, "--output", str(picture), "--server", target]
    drawn = subprocess.run(command, capture_output=True, text=True, check=False)
    if drawn.returncode:
        raise NothingFound(f"`dreamsvc draw` ended with {drawn.returncode}: {drawn.stderr.strip()}")
    console.print(f"  {drawn.stdout.strip()}", markup=False)
