"""The command line: thin gRPC clients."""
