"""Protobuf to core: all request validation, every violated field reported at once."""
