"""Sleep for an AI agent's long-term memory, as a gRPC service."""

__version__ = "0.1.0"
