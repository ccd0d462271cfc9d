"""Freezing feedback into training sets. Knows no protobuf and no gRPC."""
