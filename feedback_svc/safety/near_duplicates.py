"""Counts the authors who lately taught nearly the same: a flood from many principals. Pure.

Two corrections are nearly the same if they say the same (equal normalised answer, equal entity
words of the question, whatever the wording), or if their answers, of twelve words and more, are
worded nearly alike: estimated Jaccard similarity of the word shingles of at least 0.7. Shorter
answers that differ in a word say different things. The estimate is MinHash (Broder, On the
resemblance and containment of documents, 1997): 64 hash functions, a standard error of 0.06 at 0.7;
candidates come from 16 bands of 4 rows, which miss one pair in 80 at 0.7 (Leskovec, Rajaraman,
Ullman, Mining of Massive Datasets, 3.4). SimHash (Charikar, 2002) was left aside: its bits estimate
an angle, too coarse for texts of a dozen words.

Answers in scripts without spaces count as one word: only equal ones are alike. Memory is bounded
for all tenants together: the groups used longest ago are forgotten first, and no group counts more
authors than it is told to. Hashes do not depend on the process: replicas and replays agree.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import islice

from selm.questions import entity_words, normalise, normalise_answer

_NUM_HASHES, _NUM_ROWS = 64, 4
_SHINGLE_WORDS = 3
_MIN_WORDS = 12
_MIN_SIMILARITY = 0.7
# Words looked at; two long texts that begin alike are alike.
_MAX_WORDS = 512
# Groups compared for one band, newest first: bounds the time that crafted texts can take.
_MAX_CANDIDATES = 8
# A Mersenne prime over which a * x + b is a universal hash of 61 bits.
_PRIME = (1 << 61) - 1

Signature = tuple[int, ...]


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


_COEFFICIENTS = tuple(
    (_number(f"a{index}") % (_PRIME - 1) + 1, _number(f"b{index}") % _PRIME)
    for index in range(_NUM_HASHES)
)


def signature(text: str) -> Signature:
    """MinHash of a text's word shingles; equal for texts of equal normal form."""
    shingles = {_number(shingle) % _PRIME for shingle in _shingles(text)}
    return tuple(min((a * x + b) % _PRIME for x in shingles) for a, b in _COEFFICIENTS)


def similarity(one: Signature, other: Signature) -> float:
    """Estimated Jaccard similarity of the texts behind two signatures."""
    return sum(a == b for a, b in zip(one, other, strict=True)) / _NUM_HASHES


@dataclass
class _Authors:
    """Distinct authors by when each was last seen, oldest first."""

    seen: OrderedDict[str, datetime] = field(default_factory=OrderedDict)

    def add(self, author: str, now: datetime, max_authors: int) -> None:
        self.seen[author] = max(now, self.seen.get(author, now))
        self.seen.move_to_end(author)
        while len(self.seen) > max_authors:
            self.seen.popitem(last=False)

    def since(self, time: datetime) -> set[str]:
        while self.seen and next(iter(self.seen.values())) <= time:
            self.seen.popitem(last=False)
        return {author for author, last in self.seen.items() if last > time}


@dataclass
class _Wording:
    """A group of texts worded nearly alike; the first of them stands for all."""

    signature: Signature
    bands: tuple[bytes, ...]
    authors: _Authors = field(default_factory=_Authors)


class FloodWindow:
    """Who taught what within the last `window_s` seconds, tenant by tenant."""

    def __init__(self, window_s: float, max_authors: int = 1000, max_groups: int = 4096) -> None:
        self._window = timedelta(seconds=window_s)
        self._max_authors = max_authors
        self._max_groups = max_groups
        self._claims: OrderedDict[bytes, _Authors] = OrderedDict()
        self._wordings: OrderedDict[int, _Wording] = OrderedDict()
        # Ids of wordings by tenant and band, oldest first.
        self._bands: dict[bytes, dict[int, None]] = {}
        self._num_wordings = 0

    def note(self, tenant: str, author: str, question: str, answer: str, now: datetime) -> int:
        """Counts this author in; how many different ones taught nearly the same in the window."""
        alike = [self._claim(tenant, question, answer)]
        if len(normalise(answer).split(" ")) >= _MIN_WORDS:
            alike += self._worded_alike(tenant, signature(answer))
        authors: set[str] = set()
        for group in alike:
            group.add(author, now, self._max_authors)
            authors |= group.since(now - self._window)
        return min(len(authors), self._max_authors)

    @property
    def num_groups(self) -> int:
        """Groups held, for a gauge of memory."""
        return len(self._claims) + len(self._wordings)

    def _claim(self, tenant: str, question: str, answer: str) -> _Authors:
        entities = sorted(entity_words(question)) or [normalise(question)]
        key = _key(tenant, normalise_answer(answer), *entities)
        authors = self._claims.setdefault(key, _Authors())
        self._claims.move_to_end(key)
        if len(self._claims) > self._max_groups:
            self._claims.popitem(last=False)
        return authors

    def _worded_alike(self, tenant: str, mine: Signature) -> list[_Authors]:
        """The groups of this wording; a new one if there is none."""
        bands = tuple(_bands(tenant, mine))
        candidates = {number for band in bands for number in self._newest(band)}
        alike = [
            number
            for number in sorted(candidates)
            if similarity(mine, self._wordings[number].signature) >= _MIN_SIMILARITY
        ]
        if not alike:
            alike = [self._add(mine, bands)]
        for number in alike:
            self._wordings.move_to_end(number)
        return [self._wordings[number].authors for number in alike]

    def _newest(self, band: bytes) -> Iterable[int]:
        return islice(reversed(self._bands.get(band, {})), _MAX_CANDIDATES)

    def _add(self, mine: Signature, bands: tuple[bytes, ...]) -> int:
        self._num_wordings += 1
        number = self._num_wordings
        self._wordings[number] = _Wording(mine, bands)
        for band in bands:
            self._bands.setdefault(band, {})[number] = None
        if len(self._wordings) > self._max_groups:
            self._forget(*self._wordings.popitem(last=False))
        return number

    def _forget(self, number: int, wording: _Wording) -> None:
        for band in wording.bands:
            numbers = self._bands[band]
            del numbers[number]
            if not numbers:
                del self._bands[band]


def _shingles(text: str) -> Iterator[str]:
    """Runs of words; of fewer words, all of them."""
    found = normalise(text).split(" ")[:_MAX_WORDS]
    for start in range(max(1, len(found) - _SHINGLE_WORDS + 1)):
        yield " ".join(found[start : start + _SHINGLE_WORDS])


def _bands(tenant: str, mine: Signature) -> Iterator[bytes]:
    for start in range(0, _NUM_HASHES, _NUM_ROWS):
        yield _key(tenant, str(start), *map(str, mine[start : start + _NUM_ROWS]))


def _key(*parts: str) -> bytes:
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=12).digest()
