"""`dreamsvc draw`: a night as a picture."""

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path

from dreamsvc_client import Client

from dreamsvc.cli.call import calling
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Command, add_call_arguments, count
from dreamsvc.cli.output import counted
from dreamsvc.cli.problems import print_problem
from dreamsvc.v1.dream_pb2 import Dream

FORMATS = ("svg", "png")
# Nights looked back for one with a REM phase.
_LOOKED_BACK = 50


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dream", metavar="DREAM", nargs="?", default="", help="its id (default: the last night with a REM phase)"
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="FILE.svg or FILE.png")
    parser.add_argument(
        "--memories", metavar="N", type=count, help="most memories to show, the most important first (default: 5000)"
    )
    add_call_arguments(parser)


def _draw(client: Client, args: argparse.Namespace) -> int:
    target: Path = args.output
    file_format = target.suffix.lower().removeprefix(".")
    if file_format not in FORMATS:
        print_problem(f"{target}: the name has to end in .svg or .png", as_json=args.json)
        return EXIT_USAGE
    if find_spec("matplotlib") is None:
        print_problem("matplotlib is not installed", as_json=args.json, hint="pip install 'dreamsvc[draw]'")
        return EXIT_FAILED
    dream = args.dream or _last_rem(client, args.space)
    shown = client.dream_map(dream, args.space, max_memories=args.memories)
    if not shown.memories:
        print_problem("no positions yet", as_json=args.json, hint="run `dreamsvc dream --phase rem` first")
        return EXIT_FAILED
    # Half a second, and only where it is installed.
    from dreamsvc.cli import drawing

    title = f"Dream {dream}" if dream else f"Memories of the space {args.space}"
    body, drawn = drawing.draw(shown, title, file_format)
    target.write_bytes(body)
    if args.json:
        print(json.dumps({"file": str(target), "dream_id": dream, **drawn._asdict()}, ensure_ascii=False))
        return EXIT_OK
    told = [
        counted(drawn.memories, "memory", "memories"),
        counted(drawn.walks, "walk", "walks"),
        counted(drawn.finds, "find", "finds"),
        counted(drawn.links, "link", "links"),
    ]
    print(f"{target}: {', '.join(told)}" + (f" of dream {dream}" if dream else ""))
    if dream and not drawn.walks:
        print("note: this dream walked nowhere; the picture shows where memories lie now", file=sys.stderr)
    return EXIT_OK


def _last_rem(client: Client, space: str) -> str:
    """The newest night that is applied and explored; empty where there is none."""
    found = client.dreams(space, page_size=_LOOKED_BACK, states=[Dream.STATE_SUCCEEDED]).dreams
    return next((dream.id for dream in found if dream.report.HasField("exploration")), "")


COMMANDS = {
    "draw": Command(
        description=(
            "Draws where memories lie in the Poincare disk, and what a dream walked and found there.\n"
            "What is near the centre stands for much, what is near the rim for itself."
        ),
        examples="""
            draw -o night.svg
            draw 01890a5d-ac96-774b-bcce-b302099a8057 -o night.png --memories 2000
        """,
        add_arguments=_arguments,
        run=calling(_draw),
    ),
}
