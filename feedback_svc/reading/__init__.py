"""The back room for readers: lists, watches and exports what stream FEEDBACK holds.

Knows no contract and no gRPC; fulfils core.EventReader on what the Journal keeps.
"""
