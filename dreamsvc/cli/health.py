"""`dreamsvc health`: what of the service does its work."""

import argparse

from dreamsvc_client import Client

from dreamsvc.cli import output
from dreamsvc.cli.call import calling
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, Command, add_server_arguments
from dreamsvc.v1 import health_pb2
from dreamsvc.v1.health_pb2 import HealthState

EXIT_PARTIAL = 3
EXIT_CODES = """exit codes:
  0  everything that is switched on works
  1  it does not answer, or answers no queries
  2  wrong usage
  3  partial: queries are answered, and a part does not work"""
_EXITS = {health_pb2.HEALTH_STATE_SERVING: EXIT_OK, health_pb2.HEALTH_STATE_PARTIAL: EXIT_PARTIAL}


def _health(client: Client, args: argparse.Namespace) -> int:
    health = client.health()
    if args.json:
        output.print_json(health)
        return _EXITS.get(health.status, EXIT_FAILED)
    print(output.word(HealthState, health.status, "HEALTH_STATE_"))
    parts = output.table("part", "state", "since (UTC)", "")
    for part in health.subsystems:
        said = "; ".join(filter(None, (part.message, part.hint)))
        state = output.word(HealthState, part.state, "HEALTH_STATE_")
        parts.add_row(part.name, state, output.time_text(part.since), output.plain(said))
    output.console().print(parts)
    return _EXITS.get(health.status, EXIT_FAILED)


COMMANDS = {
    "health": Command(
        description="What of the service does its work, part by part, and what to do about what does not.",
        examples="""
            health
            health --json
        """,
        add_arguments=add_server_arguments,
        run=calling(_health),
        exit_codes=EXIT_CODES,
    ),
}
