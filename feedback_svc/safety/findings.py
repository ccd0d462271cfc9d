"""Kinds of what the screen finds, and how to write one down. Knows no rule."""

from enum import StrEnum

from feedback_svc.core import Finding


class FindingKind(StrEnum):
    """Names of the contract's Finding.Kind."""

    CREDENTIAL = "CREDENTIAL"
    PERSONAL_DATA = "PERSONAL_DATA"
    INSTRUCTION_OVERRIDE = "INSTRUCTION_OVERRIDE"
    UNUSUAL_TEXT = "UNUSUAL_TEXT"
    REPEATED_BY_MANY = "REPEATED_BY_MANY"
    CONFLICT = "CONFLICT"
    BLOCKED_AUTHOR = "BLOCKED_AUTHOR"


def finding(kind: FindingKind, field: str, detail: str) -> Finding:
    """`detail` is for people and holds no part of the text: it may be a secret."""
    return Finding(str(kind), field, detail)


def repeated_by_many(num_authors: int, limit: int) -> Finding:
    """The finding for an event that a flood window counted `num_authors` for."""
    detail = f"{num_authors} authors sent nearly the same lately; more than {limit} is a flood"
    return finding(FindingKind.REPEATED_BY_MANY, "", detail)


def blocked_author() -> Finding:
    return finding(FindingKind.BLOCKED_AUTHOR, "", "its author is blocked")
