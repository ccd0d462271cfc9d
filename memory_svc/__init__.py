"""memory_svc: what SELM remembers for its users, and whether a memory applies to a question.

It knows vectors, supersession and the scope gate. It does not know how answers are generated, when
training happens, or what a revision weighs; it hears of lessons over the bus alone.
"""
