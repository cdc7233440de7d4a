"""A process whose next-item distribution is an exact function of the observed past.

Every item has one category. After a user's events ``1, ..., t``, where event ``e`` has ``age(e) = t + 1 - e``:

    p(item)         = p(its category) * p(item | category)
    p(category c)   = stay * [c is the last item's] + follow * [c comes after the last item's, in a ring]
                      + (1 - stay - follow) * (base * rate_c + memory_c) / (base + sum of memory)
    memory_c        = sum over the user's events e of category c of kernel(age(e))
    p(item i | c)   ~ popularity_i + repeat * (times the user took i)

Before the first event the category is drawn from the rates alone. Nothing is latent: users start alike and become personal
because the rich get richer, so this very distribution is a ceiling that a model could reach.

``kernel`` fades like a power law: a sum of exponentials whose time constants are powers of 4 (`kernel`), which a recursion
follows exactly at any length. Where interests ``follow`` each other, the last item tells which category is likely next, and
what the user takes there was mostly last taken longer ago than a few items. Times are sessions of short gaps between long
ones, drawn apart from the items: they tell nothing of the next item, so the ceiling holds with and without them.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persrec.data.base import Bounds
from persrec.data.interactions import InteractionLog
from persrec.data.prepared import write_log
from persrec.data.protocol import Protocol

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TIME_CONSTANTS = np.append(4.0 ** np.arange(9), np.inf)  # events; what would outlive the longest user is kept whole, by an infinite one
USERS_AT_ONCE = 512  # each block of users has a random stream of its own: changing this changes the data
FIRST_SECOND = 1_600_000_000
SYLLABLES = tuple(consonant + vowel for consonant in "bdfgklmnprstv" for vowel in "aeiou")
MOST_WORDS = len(SYLLABLES) ** 2
_CATALOGUE, _LENGTHS, _EVENTS, _TIMES = range(4)  # random streams


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticSettings:
    """Everything that decides the data; the digest is of these values alone.

    Attributes:
        version: raised with every change of the process or of a named size.
        seed: of all random streams.
        users: number of users.
        shortest: fewest events of a user; lengths are uniform up to ``longest``.
        longest: most events of a user.
        categories: number of categories.
        items_per_category: items of each category.
        stay: probability of staying in the last item's category.
        follow: probability of going to the category that comes after the last item's.
        base: weight of the base rates against a memory in which one fresh event weighs 1.
        fade: exponent of the power law by which memory fades.
        repeat: weight of one earlier take of an item, where the mean popularity in its category is 1.
        slope: Zipf exponent of the categories' rates and of the items' popularity inside a category.
        titled: whether a text begins with a word of the item's own, as a title would; the interactions are the same.
    """

    version: int = 1
    seed: int = 20260103
    users: int
    shortest: int
    longest: int
    categories: int
    items_per_category: int
    stay: float = 0.1
    follow: float = 0.0
    base: float = 30.0
    fade: float = 0.1
    repeat: float = 60.0
    slope: float = 0.2
    titled: bool = False

    def __post_init__(self) -> None:
        for name in ("version", "users", "shortest", "categories", "items_per_category"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is less than 1")
        if self.longest < self.shortest:
            raise ValueError(f"longest: {self.longest} is less than shortest, {self.shortest}")
        if max(self.categories, self.items_per_category) > MOST_WORDS:
            raise ValueError(f"categories, items_per_category: {self.categories}, {self.items_per_category}; expected {MOST_WORDS} at most")
        if self.titled and self.num_items > MOST_WORDS:
            raise ValueError(f"titled: {self.num_items - 1} items; expected fewer than {MOST_WORDS}, the words there are")
        self._check_shares()
        for name in ("base", "fade", "repeat", "slope"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is negative")
        if self.base == 0:
            raise ValueError("base: 0; expected more, or the first event has no distribution")

    def _check_shares(self) -> None:
        for name in ("stay", "follow"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} leaves 0 <= {name} < 1")
        if not self.stay + self.follow < 1:
            raise ValueError(f"stay, follow: {self.stay} and {self.follow} make 1 or more; expected less")

    @property
    def num_items(self) -> int:
        """``V``, padding included."""
        return self.categories * self.items_per_category + 1


_ROUNDS = SyntheticSettings(users=2000, shortest=112, longest=140, categories=24, items_per_category=12, stay=0.0, follow=0.7, base=100.0)
SIZES: dict[str, SyntheticSettings] = {
    "tiny": SyntheticSettings(users=400, shortest=60, longest=100, categories=24, items_per_category=12, base=10.0),
    "small": SyntheticSettings(users=1500, shortest=200, longest=300, categories=50, items_per_category=12),
    "medium": SyntheticSettings(users=4000, shortest=360, longest=480, categories=64, items_per_category=30),
    "rounds": _ROUNDS,
    "titled": dataclasses.replace(_ROUNDS, titled=True),
    # more interests than the tokens of any grid, each seen about twice before the last 8 items; few enough events to be learnt in minutes
    "laps": SyntheticSettings(
        users=1500,
        shortest=110,
        longest=150,
        categories=24,
        items_per_category=20,
        stay=0.0,
        follow=0.8,
        base=100.0,
        repeat=150.0,
        titled=True,
    ),
    # the same in a size that two layers learn in seconds: six interests, of which the last 4 items never show the next one
    "tiny-laps": SyntheticSettings(
        users=400,
        shortest=40,
        longest=60,
        categories=6,
        items_per_category=8,
        stay=0.0,
        follow=0.9,
        base=20.0,
        repeat=100.0,
    ),
    "long": SyntheticSettings(users=24, shortest=12_000, longest=16_384, categories=64, items_per_category=30),
}
DEFAULT_SIZE = "small"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DrawnCatalogue:
    """The items of a size. Internally an item is ``category * items_per_category + place``; ids are shuffled.

    Attributes:
        ids: int64 ``[V - 1]``, the id of each internal item.
        internal: int64 ``[V]``, the internal item of each id, -1 for padding.
        rates: ``[C]``, base rates of the categories, sum 1.
        popularity: ``[C, items_per_category]``, mean 1 in each category.
    """

    ids: Ints
    internal: Ints
    rates: Floats
    popularity: Floats


def catalogue(settings: SyntheticSettings) -> DrawnCatalogue:
    """The items that the settings describe."""
    random = _random(settings, _CATALOGUE)
    per_category = settings.items_per_category
    ids = random.permutation(settings.num_items - 1) + 1
    internal = np.full(settings.num_items, -1, dtype=np.int64)
    internal[ids] = np.arange(settings.num_items - 1)
    rates = _zipf(random, settings.categories, settings.slope)
    popularity = np.stack([per_category * _zipf(random, per_category, settings.slope) for _ in range(settings.categories)])
    return DrawnCatalogue(ids=ids, internal=internal, rates=rates, popularity=popularity)


def kernel(age: NDArray[Any], fade: float) -> Floats:
    """Weight in memory of an event that is ``age >= 1`` events back: 1 at age 1, then close to ``age ** -fade``."""
    weights: Floats = np.exp(-(np.asarray(age, dtype=np.float64)[..., None] - 1) / TIME_CONSTANTS) @ _kernel_weights(fade)
    return weights


def category_probabilities(settings: SyntheticSettings, rates: Floats, memory: Floats, last: Ints) -> Floats:
    """``[n, C]`` probabilities of the next category, from the memory ``[n, C]`` and the last category ``[n]``, -1 for none."""
    weights = settings.base * rates + memory
    probabilities: Floats = weights / weights.sum(axis=1, keepdims=True)
    transition_share = np.where(last >= 0, settings.stay + settings.follow, 0.0)[:, None]
    probabilities *= 1 - transition_share
    rows = np.flatnonzero(last >= 0)
    probabilities[rows, last[rows]] += settings.stay
    probabilities[rows, (last[rows] + 1) % settings.categories] += settings.follow
    return probabilities


def item_weights(settings: SyntheticSettings, popularity: Floats, take_counts: NDArray[Any]) -> Floats:
    """Weights ``[..., items_per_category]`` of a category's items, from how often the user took each."""
    weights: Floats = popularity + settings.repeat * take_counts
    return weights


def generate(settings: SyntheticSettings, *, name: str = "synthetic", digest: str | None = None) -> InteractionLog:
    """The log of the settings; the same settings give the same log."""
    item_catalogue = catalogue(settings)
    lengths = _random(settings, _LENGTHS).integers(settings.shortest, settings.longest + 1, size=settings.users)
    items, times = [], []
    for block, start in enumerate(range(0, settings.users, USERS_AT_ONCE)):
        counts = lengths[start : start + USERS_AT_ONCE]
        is_event = np.arange(counts.max())[None, :] < counts[:, None]
        items.append(
            item_catalogue.ids[
                _draw_items(settings, item_catalogue, _random(settings, _EVENTS, block), len(counts), int(counts.max()))[is_event]
            ]
        )
        times.append(_draw_times(_random(settings, _TIMES, block), len(counts), int(counts.max()))[is_event])
    categories = np.zeros(settings.num_items, dtype=np.int64)
    categories[1:] = item_catalogue.internal[1:] // settings.items_per_category + 1
    return InteractionLog(
        name=name,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.concatenate(items),
        times=np.concatenate(times),
        num_items=settings.num_items,
        protocol=Protocol(),
        item_texts=_texts(settings, item_catalogue),
        item_categories=categories,
        digest=settings_digest(settings) if digest is None else digest,
        notes={
            "settings": dataclasses.asdict(settings),
            "rows": int(lengths.sum()),
            "users": settings.users,
            "items": settings.num_items - 1,
        },
    )


def settings_digest(settings: SyntheticSettings) -> str:
    """SHA-256 of the settings' canonical JSON, without later settings that are off, so that earlier sizes keep their digests."""
    values = {name: value for name, value in dataclasses.asdict(settings).items() if value or name not in ("follow", "titled")}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def settings_of(notes: Mapping[str, Any]) -> SyntheticSettings:
    """The settings that a generated log keeps in its notes.

    Raises:
        ValueError: the log is not a synthetic one.
    """
    if "settings" not in notes:
        raise ValueError("notes: no settings; expected the notes of a synthetic log")
    return SyntheticSettings(**notes["settings"])


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticDataset:
    """``synthetic``: generated, needs no files; named sizes, ``small`` by default."""

    name: str = "synthetic"
    sizes: tuple[str, ...] = tuple(SIZES)
    needs: str = ""
    licence: str = ""

    def settings(self, size: str | None) -> SyntheticSettings:
        """The frozen settings of a size.

        Raises:
            ValueError: the size is unknown; the message lists the known.
        """
        if (size or DEFAULT_SIZE) not in SIZES:
            raise ValueError(f"size: unknown {size!r} of dataset {self.name!r}; known: {', '.join(SIZES)}")
        return SIZES[size or DEFAULT_SIZE]

    def folder(self, size: str | None) -> str:
        """As `Dataset` says."""
        return f"{self.name}-{size or DEFAULT_SIZE}"

    def digest(self, size: str | None, data_dir: Path | None) -> str:  # noqa: ARG002 - the protocol of all datasets
        """SHA-256 of the settings; generates nothing."""
        return settings_digest(self.settings(size))

    def prepare(self, size: str | None, data_dir: Path | None, folder: Path, bounds: Bounds) -> None:  # noqa: ARG002 - the protocol of all datasets
        """Generates the log into an empty folder."""
        write_log(generate(self.settings(size), name=self.name), folder)


def _draw_items(settings: SyntheticSettings, item_catalogue: DrawnCatalogue, random: np.random.Generator, users: int, events: int) -> Ints:
    """Internal items ``[users, events]``; the memory is updated one event at a time, for all users at once."""
    C, per_category = settings.categories, settings.items_per_category
    user_rows = np.arange(users)
    traces = np.zeros((users, C, len(TIME_CONSTANTS)))
    weights, decay = _kernel_weights(settings.fade), np.exp(-1 / TIME_CONSTANTS)
    take_counts = np.zeros((users, C, per_category))
    last = np.full(users, -1)
    items = np.empty((users, events), dtype=np.int64)
    for event in range(events):
        chances = random.random((2, users))
        category = _choose(category_probabilities(settings, item_catalogue.rates, traces @ np.ones(len(TIME_CONSTANTS)), last), chances[0])
        place = _choose(item_weights(settings, item_catalogue.popularity[category], take_counts[user_rows, category]), chances[1])
        items[:, event] = category * per_category + place
        traces *= decay
        traces[user_rows, category] += weights
        take_counts[user_rows, category, place] += 1
        last = category
    return items


def _draw_times(random: np.random.Generator, users: int, events: int) -> Ints:
    """Seconds ``[users, events]``: sessions of about 8 events a minute apart, about a day between sessions."""
    same_session = random.random((users, events)) < 7 / 8
    inner_gaps = random.lognormal(np.log(60), 0.8, size=(users, events))
    session_gaps = random.lognormal(np.log(86_400), 1.0, size=(users, events))
    gaps = np.maximum(1, np.where(same_session, inner_gaps, session_gaps)).astype(np.int64)
    first_seconds = FIRST_SECOND + random.integers(0, 30 * 86_400, size=(users, 1))
    times: Ints = first_seconds + np.cumsum(gaps, axis=1)
    return times


def _texts(settings: SyntheticSettings, item_catalogue: DrawnCatalogue) -> tuple[str, ...]:
    """``category kind detail`` in words made up of syllables, after a title where there are titles.

    Kinds and details are shared by all categories; a title belongs to one item alone and tells nothing else.
    """
    category, place = np.divmod(item_catalogue.internal[1:], settings.items_per_category)
    kind, detail = np.divmod(place, 4)
    titles = [(np.arange(1, settings.num_items), "s")] if settings.titled else []
    words = (_words(number, last) for number, last in (*titles, (category, "n"), (kind, "r"), (detail, "l")))
    return ("", *(" ".join(item_words) for item_words in zip(*words, strict=True)))


def _words(numbers: Ints, last: str) -> list[str]:
    """A pronounceable word for each number below `MOST_WORDS`; the last letter tells the kind of word."""
    pairs = (divmod(number, len(SYLLABLES)) for number in numbers.tolist())
    return [f"{SYLLABLES[high]}{SYLLABLES[low]}{last}" for high, low in pairs]


def _choose(weights: Floats, chances: Floats) -> Ints:
    """The entry of each row of ``[n, m]`` weights, not normalised, that a uniform chance in [0, 1) falls on."""
    cumulative = np.cumsum(weights, axis=1)
    entries: Ints = np.minimum((cumulative <= (chances * cumulative[:, -1])[:, None]).sum(axis=1), weights.shape[1] - 1)
    return entries


def _kernel_weights(fade: float) -> Floats:
    """Shares of the time constants, sum 1: ``constant ** -fade`` each, and the last holds all that would follow."""
    ratio = 4.0**-fade
    powers: Floats = ratio ** np.arange(len(TIME_CONSTANTS))
    powers[:-1] *= 1 - ratio
    return powers


def _zipf(random: np.random.Generator, count: int, slope: float) -> Floats:
    """Shares ``[count]`` in random order, near a power law of the place; a jitter of 5% leaves no two alike."""
    return _shares(random.permutation(np.arange(1, count + 1) ** -slope) * np.exp(random.normal(0, 0.05, count)))


def _shares(weights: NDArray[Any]) -> Floats:
    shares: Floats = weights / weights.sum()
    return shares


def _random(settings: SyntheticSettings, *stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(settings.seed, spawn_key=stream)))


def build() -> SyntheticDataset:
    """The dataset ``synthetic``."""
    return SyntheticDataset()
