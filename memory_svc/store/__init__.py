"""The back room of memory_svc: Milvus and the embedding model, behind the ports of core."""
