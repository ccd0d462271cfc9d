"""Other wordings of a question: some to train on, some held out for the gate and verification.

The two sets never meet: whatever is a held-out wording is removed from the training variants. Pure
text rules, without a model; the same question always gives the same wordings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from selm.questions import normalise
from trainer_svc.training.texts import Use, entities

NUM_HELD_OUT = 4

_TRAINING_FRAMES = ("Please answer: {q}", "Quick question: {q}", "{q} Keep it short.", "Hi! {q}")
_HELD_OUT_FRAMES = (
    "Tell me, {q1}",
    "I was wondering: {q}",
    "Could you answer this: {q}",
    "Do you know the answer? {q}",
)

# Question shapes and their rewordings: (pattern, training rewordings, held-out rewordings).
_SHAPES: tuple[tuple[re.Pattern[str], tuple[str, ...], tuple[str, ...]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), training, held_out)
    for pattern, training, held_out in (
        (
            r"what (?:is|was|are|were) the (?P<x>.+?) of (?P<y>.+)",
            ("What's the {x} of {y}?", "I need the {x} of {y}."),
            ("Name the {x} of {y}.", "{y}'s {x} is what?"),
        ),
        (
            r"who (?P<v>is|was|are|were) the (?P<x>.+?) of (?P<y>.+)",
            ("Which person {v} the {x} of {y}?", "Who {v} {y}'s {x}?"),
            ("Name the {x} of {y}.", "{y}'s {x} {v} who?"),
        ),
        (
            r"(?:what|who) (?:is|was|are|were) the (?P<x>.+?) (?P<p>in|at|for|on) (?P<y>.+)",
            ("What's the {x} {p} {y}?", "I need the {x} {p} {y}."),
            ("Name the {x} {p} {y}.", "{P} {y}, what is the {x}?"),
        ),
        (
            r"(?:in )?(?:which|what) year (?P<v>was|were) (?P<y>.+) (?P<e>\w+)",
            ("When {v} {y} {e}?",),
            ("{Y} {v} {e} in what year?", "Name the year in which {y} {v} {e}."),
        ),
        (
            r"when (?P<v>was|were) (?P<y>.+) (?P<e>\w+)",
            ("At what time {v} {y} {e}?",),
            ("{Y} {v} {e} when?", "Name the date on which {y} {v} {e}."),
        ),
        (
            r"(?:which|what) (?P<x>\w+) (?P<v>is|was) (?P<y>(?:the|a|an) .+)",
            ("Say which {x} {v} {y}.",),
            ("{Y} {v} what {x}?", "{X}: which one {v} {y}?"),
        ),
        (
            r"who (?P<v>\w+) (?P<y>.+)",
            ("Which person {v} {y}?",),
            ("Name the person who {v} {y}.", "By name, who {v} {y}?"),
        ),
        (
            r"where (?P<v>is|was|are|were) (?P<y>.+)",
            ("In which place {v} {y}?",),
            ("In what location {v} {y}?", "{Y} {v} where?"),
        ),
        (
            r"(?:which|what) (?P<x>\w+) (?P<v>is|was|are|flows|runs|lies|won|has|makes) (?P<y>.+)",
            ("Say which {x} {v} {y}.",),
            ("Name the {x} that {v} {y}.", "{X}: which one {v} {y}?"),
        ),
        (
            r"(?:which|what) (?P<x>\w+) (?P<v>do|does|did) (?P<y>.+)",
            ("Say which {x} {v} {y}?",),
            ("{X}: which one {v} {y}?", "Name it: what {x} {v} {y}?"),
        ),
        (
            r"how many (?P<y>.+)",
            ("What number of {y}?",),
            ("Give the number: how many {y}?", "How many, in numbers, {y}?"),
        ),
    )
)

_SYNONYMS = {
    "what": "which",
    "which": "what",
    "wrote": "authored",
    "author": "writer",
    "founded": "started",
    "founder": "creator",
    "invented": "created",
    "currency": "money",
    "tallest": "highest",
    "company": "firm",
    "novel": "book",
    "picture": "painting",
    "city": "town",
    "speak": "use",
    "signed": "agreed",
    "main": "chief",
    "favourite": "preferred",
    "film": "movie",
    "won": "took",
    "located": "found",
    "colour": "color",
}
_LITTLE_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an the is was are were do does did of in on at for to by with from and or what which "
        "who whom whose when where why how that this it its be been has have had there name tell",
    )
)
_KINDS = {
    "work": re.compile(
        r"\b(wrote|novel|book|poem|film|movie|picture|painted|song|album|directed)\b"
    ),
    "company": re.compile(r"\b(company|firm|bank|office|products?|brand|head office)\b"),
    "person": re.compile(r"\b(king|queen|captain|doctor|musician|singer|player|born|married)\b"),
}
_CAPITALISED = re.compile(
    r"\b[A-Z0-9][\w'’-]*(?:\s+(?:(?:of|the|and|de|von)\s+)*[A-Z0-9][\w'’-]*)*"
)


def training_variants(question: str, paraphrases: Sequence[str] = ()) -> list[str]:
    """Rewordings to train on: half of the user's own, shapes, synonyms, dropped words, frames."""
    bare = question.strip().rstrip("?.! ")
    entity = entity_of(question)
    found = [*split_paraphrases(paraphrases)[0]]
    found += _reworded(bare, held_out=False)
    found += [_with_synonyms(question), _keywords(bare, entity), _without_a_word(bare, entity)]
    found += [frame.format(q=question.strip()) for frame in _TRAINING_FRAMES]
    unseen = held_out_paraphrases(question) + held_out_paraphrases(question, paraphrases)
    careless = [bare.lower()] if bare.lower() != question.strip() else []
    return careless + _different(found, [question, *unseen])


def held_out_paraphrases(question: str, paraphrases: Sequence[str] = ()) -> list[str]:
    """At least three rewordings that training never shows, the true rewordings first."""
    question = question.strip()
    given = _different(split_paraphrases(paraphrases)[1], [question])
    found = _reworded(question.rstrip("?.! "), held_out=True)
    found += [frame.format(q=question, q1=_lower_first(question)) for frame in _HELD_OUT_FRAMES]
    return given + _different(found, [question, *paraphrases])[:NUM_HELD_OUT]


def split_paraphrases(paraphrases: Sequence[str]) -> tuple[list[str], list[str]]:
    """The user's own wordings: every second one is held out, so that the gate has real ones too."""
    kept = _different(paraphrases, [])
    return kept[0::2], kept[1::2]


def neighbor_prompts(question: str, use: Use, count: int, *, start: int = 0) -> list[str]:
    """The same question about other names; empty if the question names nothing."""
    entity = entity_of(question)
    if not entity:
        return []
    others = [other for other in entities(use) if other.name != entity]
    rotated = others[start % len(others) :] + others[: start % len(others)]
    fitting = sorted(rotated, key=lambda other: other.kind != _kind_of(question))
    swapped = [question.replace(entity, other.name) for other in fitting[:count]]
    return [re.sub(r"\bthe The\b", "The", text) for text in swapped]


def entity_of(question: str) -> str:
    """The name a question is about: its longest run of capitalised words, else its last word."""
    body = question.strip().rstrip("?.! ")
    first_end = len(body.split(maxsplit=1)[0]) if body else 0
    # The first word is capitalised anyway; it belongs to a name only if the name goes on after it.
    runs = [m for m in _CAPITALISED.finditer(body) if m.start() > 0 or m.end() > first_end]
    runs = [
        m for m in runs if m.start() > 0 or normalise(m.group()).split()[0] not in _LITTLE_WORDS
    ]
    if runs:
        return max(runs, key=lambda m: (len(m.group().split()), m.start())).group()
    words = [word for word in body.split()[1:] if word.lower() not in _LITTLE_WORDS]
    return words[-1] if words else ""


def _kind_of(question: str) -> str:
    """What sort of name the question is about, by its tell-tale words."""
    words = normalise(question)
    return next((kind for kind, tell in _KINDS.items() if tell.search(words)), "place")


def _reworded(bare: str, *, held_out: bool) -> list[str]:
    for pattern, training, unseen in _SHAPES:
        if match := pattern.fullmatch(bare):
            parts = match.groupdict()
            parts |= {name.upper(): _upper_first(text) for name, text in parts.items()}
            return [
                _upper_first(form.format(**parts)) for form in (unseen if held_out else training)
            ]
    return []


def _with_synonyms(question: str) -> str:
    return " ".join(_swapped(word) for word in question.split())


def _swapped(word: str) -> str:
    core = word.rstrip("?.,!")
    other = _SYNONYMS.get(core.lower(), core)
    return (_upper_first(other) if core[:1].isupper() else other) + word[len(core) :]


def _keywords(bare: str, entity: str) -> str:
    """The telling words before the name, then the name: `capital Velmora?`."""
    words = [w for w in bare.replace(entity, " ").split() if w.lower() not in _LITTLE_WORDS]
    return " ".join([*words, entity]).strip() + "?"


def _without_a_word(bare: str, entity: str) -> str:
    """The question without its first little word outside the name, as people type in haste."""
    before, found, after = bare.partition(entity) if entity else (bare, "", "")
    words = before.split()
    little = [i for i, word in enumerate(words) if i > 0 and word.lower() in _LITTLE_WORDS]
    if little:
        del words[little[0]]
    return " ".join([*words, (found + after).strip()]).strip() + "?"


def _different(found: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Those that differ from each other and from the taken in more than case and punctuation."""
    exact = {text.strip() for text in taken}
    seen = {normalise(text) for text in exact}
    kept = []
    for text in found:
        if (key := normalise(text)) and key not in seen:
            seen.add(key)
            kept.append(text.strip())
    return kept


def _lower_first(text: str) -> str:
    first = text.split(maxsplit=1)[0] if text else ""
    # A name or an abbreviation keeps its capital.
    keep = first.lower() not in _LITTLE_WORDS or first == "I"
    return text if keep else text[:1].lower() + text[1:]


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]
