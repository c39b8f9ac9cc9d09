"""`dreamsvc remember`, `memories`, `get`, `forget` and `unmerge`."""

import argparse
import sys

from dreamsvc_client import Client
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from dreamsvc import clock, entropy
from dreamsvc.cli import memory_text, output
from dreamsvc.cli.call import calling
from dreamsvc.cli.command import EXIT_OK, Command, add_call_arguments, count, moment, next_page, unit_share
from dreamsvc.cli.output import counted
from dreamsvc.v1.memory_pb2 import Edge, Memory

# With --json all of them are printed.
_IDS_SHOWN = 20


def _remember_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", metavar="TEXT", help="what to remember; - reads it from standard input")
    parser.add_argument("--key", default="", help="your own name for it; the same key again changes that memory")
    parser.add_argument("--kind", default="", help="a word for what it is (default: note)")
    parser.add_argument("--title", default="")
    parser.add_argument("--alias", action="append", default=[], help="another name for it; may be repeated")
    parser.add_argument("--importance", metavar="0..1", type=unit_share, help="how much it matters (default: 0.5)")
    parser.add_argument("--pinned", action="store_true", help="no dream merges, prunes or hides it")
    parser.add_argument("--event-time", metavar="ISO", type=moment, help="when what it tells of happened")
    parser.add_argument("--metadata", metavar="JSON", type=_metadata, help="an object of your own")
    parser.add_argument("--link", metavar="MEMORY", action="append", default=[], help="an edge to this id or key")
    parser.add_argument("--link-type", metavar="TYPE", default="", help="type of these edges (default: related)")
    parser.add_argument("--link-weight", metavar="0..1", type=unit_share, help="their weight (default: 0.5)")
    add_call_arguments(parser)


def _metadata(text: str) -> Struct:
    try:
        return json_format.Parse(text, Struct())
    except json_format.ParseError:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object") from None


def _remember(client: Client, args: argparse.Namespace) -> int:
    memory = Memory(
        # An edge needs its source's name before the server has made one.
        id="" if args.key or not args.link else entropy.uuid7(clock.Clock().now_us()),
        key=args.key,
        kind=args.kind,
        title=args.title,
        text=sys.stdin.read() if args.text == "-" else args.text,
        aliases=args.alias,
        importance=args.importance,
        pinned=args.pinned,
        metadata=args.metadata,
        event_time=args.event_time,
    )
    edges = [
        Edge(source=memory.key or memory.id, target=target, type=args.link_type, weight=args.link_weight)
        for target in args.link
    ]
    answer = client.remember([memory], edges, space=args.space)
    if args.json:
        output.print_json(answer)
    else:
        verb = "remembered" if answer.memories_created else "changed" if answer.memories_updated else "unchanged"
        linked = f", {counted(answer.edges_created, 'new edge', 'new edges')}" if answer.edges_created else ""
        print(f"{verb}: {answer.ids[0]}{linked}")
    return EXIT_OK


def _memories_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", action="append", default=[], help="only this kind; may be repeated")
    parser.add_argument("--deleted", action="store_true", help="forgotten ones too")
    parser.add_argument("--limit", metavar="N", type=count, default=50, help="how many (default: 50)")
    parser.add_argument("--page-token", default="", help="where the list before ended")
    add_call_arguments(parser)


def _memories(client: Client, args: argparse.Namespace) -> int:
    page = client.list(
        args.space, page_size=args.limit, page_token=args.page_token, kinds=args.kind, show_deleted=args.deleted
    )
    if args.json:
        output.print_json(page)
        return EXIT_OK
    listed = output.table("id", "kind", "what")
    for memory in page.memories:
        mark = memory_text.mark(memory)
        listed.add_row(memory.id, output.plain(memory.kind), mark + output.shortened(memory.title or memory.text, 90))
    if page.memories:
        output.console().print(listed)
    else:
        print("no memories")
    if page.next_page_token:
        told = next_page("memories", page.next_page_token, args, {"--kind": args.kind})
        print(told + (" --deleted" if args.deleted else ""))
    return EXIT_OK


def _get_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="MEMORY", help="its id or key")
    parser.add_argument("--edges", action="store_true", help="its edges too")
    parser.add_argument("--vector", action="store_true", help="its vector too (shown with --json)")
    add_call_arguments(parser)


def _get(client: Client, args: argparse.Namespace) -> int:
    answer = client.get(args.id, args.space, with_vector=args.vector, with_edges=args.edges)
    if args.json:
        output.print_json(answer)
        return EXIT_OK
    memory_text.print_memory(answer.memory)
    memory_text.print_edges(answer.edges)
    return EXIT_OK


def _ids_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", metavar="MEMORY", nargs="+", help="ids or keys")
    add_call_arguments(parser)


def _forget(client: Client, args: argparse.Namespace) -> int:
    answer = client.forget(args.ids, args.space)
    if args.json:
        output.print_json(answer)
    else:
        print(f"forgotten: {answer.forgotten}, already before: {answer.unchanged}; `dreamsvc restore` brings them back")
    return EXIT_OK


def _unmerge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="MEMORY", help="id or key of a container, a facet, or a memory with copies")
    add_call_arguments(parser)


def _unmerge(client: Client, args: argparse.Namespace) -> int:
    answer = client.unmerge(args.id, args.space)
    if args.json:
        output.print_json(answer)
        return EXIT_OK
    print(f"{counted(len(answer.ids), 'memory', 'memories')} by themselves again; dreams keep them apart from now on")
    for memory_id in answer.ids[:_IDS_SHOWN]:
        output.print_text(f"  {memory_id}")
    if len(answer.ids) > _IDS_SHOWN:
        print(f"  … and {len(answer.ids) - _IDS_SHOWN:,} more")
    if answer.vectors_approximate:
        vectors = counted(answer.vectors_approximate, "vector was", "vectors were")
        print(f"{vectors} read back from a code, nearly as before: the original was purged")
    return EXIT_OK


COMMANDS = {
    "remember": Command(
        description="Stores one memory, with edges to others if there are any. Import takes many at a time.",
        examples="""
            remember "The deploy needs the VPN." --kind fact --importance 0.8
            remember - --key note:42 --title "Meeting" < notes.txt
            remember "Ann leads it." --link project:apollo --link-type leads --link-weight 0.9
        """,
        add_arguments=_remember_arguments,
        run=calling(_remember),
    ),
    "memories": Command(
        description="Lists the memories of a space.",
        examples="""
            memories --kind fact
            memories --deleted --json
        """,
        add_arguments=_memories_arguments,
        run=calling(_memories),
    ),
    "get": Command(
        description="Shows one memory.",
        examples="""
            get note:42 --edges
            get 01890a5d-ac96-774b-bcce-b302099a8057 --json --vector
        """,
        add_arguments=_get_arguments,
        run=calling(_get),
    ),
    "forget": Command(
        description="Hides memories. Nothing is destroyed: `dreamsvc restore` brings them back for 30 days.",
        examples="forget note:42 note:43",
        add_arguments=_ids_arguments,
        run=calling(_forget),
    ),
    "unmerge": Command(
        description=(
            "Takes what dreams merged apart: a container with all it holds, one facet out of its container,\n"
            "or the copies that a memory stands for."
        ),
        examples="""
            unmerge 01890a5d-ac96-774b-bcce-b302099a8057
            unmerge note:42 --json
        """,
        add_arguments=_unmerge_arguments,
        run=calling(_unmerge),
    ),
}
