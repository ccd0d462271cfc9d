"""Answers: runs the base model with one adapter revision per row and what memory recalls.

Follows the registry over the bus and asks memory through its API; does not know how adapters are
trained, where memories are stored, or what happens to feedback.
"""
