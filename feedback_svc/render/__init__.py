"""Core to protobuf: what feedback_svc answers; validates nothing."""
