"""`dreamsvc serve` and `dreamsvc dreamer`: the two processes. Imports nothing that they do not need themselves."""

import argparse
import gc
import os
from pathlib import Path

from dreamsvc.cli.command import EXIT_FAILED, EXIT_USAGE, Command, add_json_argument
from dreamsvc.cli.problems import print_dreamsvc_error
from dreamsvc.config_sources import Sources
from dreamsvc.errors import DreamsvcError, InvalidFields

# What may be said on the command line, by the keys of the configuration.
OPTIONS = {"store": "store.path", "host": "server.host", "port": "server.port", "embedder": "embedder.kind"}


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """All that a configuration is read from, besides the environment."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="a TOML file; `dreamsvc config defaults` lists it")
    parser.add_argument("--store", metavar="PATH", help="the database file (store.path)")
    parser.add_argument("--host", metavar="HOST", help="the address to listen at (server.host)")
    parser.add_argument("--port", metavar="PORT", type=int, help="the port, 0 for a free one (server.port)")
    parser.add_argument("--embedder", metavar="KIND", help="who turns text into vectors (embedder.kind)")


def sources_of(args: argparse.Namespace) -> Sources:
    told = {path: (f"--{option}", getattr(args, option)) for option, path in OPTIONS.items()}
    options = {path: (option, value) for path, (option, value) in told.items() if value is not None}
    return Sources(args.config, dict(os.environ), options)


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    add_json_argument(parser)


def _serve(args: argparse.Namespace) -> int:
    try:
        sources = sources_of(args)
        read = sources.read()
    except InvalidFields as error:
        print_dreamsvc_error(error, as_json=args.json)
        return EXIT_USAGE
    # Read by gRPC when it is imported: the dreamer is another program, so a fork needs nothing of gRPC, and its
    # handlers would only complain of the threads that run.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    # Read by numpy when it is imported: a product that a query needs takes a millisecond, and the threads that would
    # share it go on spinning afterwards, on the core where the dreamer has to notice that it must stop.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Until it listens nothing that is loaded goes again; looking for what does would only take time.
    gc.disable()
    try:
        # Every other command starts without the server's modules.
        from dreamsvc import app

        return app.serve(sources, read)
    except DreamsvcError as error:
        print_dreamsvc_error(error, as_json=args.json)
        return EXIT_FAILED
    finally:
        # Where it never came to listen, for whoever called this in a process of theirs.
        gc.enable()


def _dreamer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--socket", metavar="PATH", required=True, help="the Unix socket of the service")
    parser.add_argument("--log-level", metavar="LEVEL", default="info", help="as telemetry.log_level")
    parser.add_argument("--traces-endpoint", metavar="URL", default="", help="as telemetry.traces_endpoint")
    add_json_argument(parser)


def _dreamer(args: argparse.Namespace) -> int:
    # As above: a product that two threads share stretches a step of a few milliseconds to many times that on a busy
    # machine, and a wake waits for the step.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # JAX is imported there and nowhere else.
    from dreamsvc.dreamer import server

    return server.run(args.socket, log_level=args.log_level, traces_endpoint=args.traces_endpoint)


COMMANDS = {
    "serve": Command(
        description=(
            "Starts the service and runs until SIGTERM or Ctrl-C. Prints `dreamsvc listening on HOST:PORT`. Options "
            "overrule the environment (DREAMSVC_SERVER__PORT is server.port), which overrules the file. A change of "
            "the file is taken up while it runs, within two seconds, or by SIGHUP at once."
        ),
        examples="""
            serve
            serve --store ./memory.db --port 0
            serve --config dreamsvc.toml --embedder none
        """,
        add_arguments=_serve_arguments,
        run=_serve,
    ),
    "dreamer": Command(
        description="The process that dreams. The service starts it where a dream is due; there is no need to.",
        examples="dreamer --socket /run/dreamsvc/dreamer.sock",
        add_arguments=_dreamer_arguments,
        run=_dreamer,
    ),
}
