"""The trainer: turns remembered corrections into judged LoRA revisions, and keeps their registry.

Knows adapters, revisions, aliases, jobs, datasets and evaluations. Knows nothing of how answers are
made or how memories are found; it asks inference_svc like any caller.
"""
