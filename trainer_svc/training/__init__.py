"""Everything a training job does: lessons in, a judged LoRA adapter out.

`child` runs one job in a process of its own; `loop` trains, `evaluate` asks and `gates` decides.
`queue` brings a request to its end around it. Nothing here knows gRPC or protobuf, and importing
this package loads no torch.
"""
