"""Records of adapters, revisions, jobs, datasets and evaluations on JetStream KV.

Every write is compare-and-set or create-once, so any number of trainers may share the buckets.
Knows no protobuf of the API: values are canonical JSON, except revisions, whose encoding is handed
in because inference reads that bucket too.
"""
