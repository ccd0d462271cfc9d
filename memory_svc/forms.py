"""The form of a question: what it asks, without the words that name what it asks about.

Two questions about one thing have the same entity words and similar embeddings whatever they ask;
their forms tell "the capital of" from "the currency of".
"""

from memory_svc.core import Embedder, Vector
from selm import questions, words


async def compare_forms(embedder: Embedder, one: str, other: str, entities: list[str]) -> float:
    """Cosine of the forms of two questions that share these entity words."""
    forms = [questions.without_words(text, entities) for text in (one, other)]
    bare = [_is_bare(form) for form in forms]
    if all(bare):
        return 1.0  # neither says more than "what is it": nothing speaks against it
    if not all(forms):
        return 0.0  # one is a name alone, the other asks for something of it
    here, there = await embedder.embed(forms)
    return cosine(here, there)


def cosine(one: Vector, other: Vector) -> float:
    """Of two unit vectors."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def _is_bare(form: str) -> bool:
    return all(words.is_function(word) for word in form.split())
