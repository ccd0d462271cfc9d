"""The back room of review: who may be learned from, and what.

1 ReviewBook hears every event and decision, and counts and groups them; nothing of it is stored.
2 AuthorBook and ResolutionBook keep what people decided about authors and conflicts, in buckets.
3 ReviewDesk, ConflictDesk and AuthorDesk show this and take decisions.
4 QuorumLoop gives each event the reach that its authors' agreement allows.
"""
