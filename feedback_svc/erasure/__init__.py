"""The back room that forgets users: directs the erasure, and does feedback_svc's own part of it.

1 Office takes a wish and makes the erasure durable; ErasureBook folds stream ERASURES for readers.
2 Part does what is next of an erasure, whenever anybody said something of it.
3 FeedbackPurge and CopyPurge take what was said out of the streams.
"""
