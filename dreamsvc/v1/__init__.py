"""Generated from protos/; run `make protos`."""
