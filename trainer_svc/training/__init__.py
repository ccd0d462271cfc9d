"""Everything a training job does: lessons in, a judged LoRA adapter out.

`child` runs one job in a process of its own; `loop` trains, `evaluate` asks and `gates` decides.
Nothing here knows gRPC, NATS or the registry, and importing this package loads no torch.
"""
