import dataclasses
import hashlib
import math

import numpy as np
import pytest

from persrec.data import load_dataset, synthetic
from persrec.data.splits import leave_one_out
from persrec.data.synthetic import SIZES, SyntheticSettings, catalogue, generate, kernel, settings_digest, settings_of

MINI = SyntheticSettings(users=3, shortest=5, longest=9, categories=3, items_per_category=4)


def test_the_same_settings_give_the_same_log_and_another_seed_another():
    first, again = generate(MINI), generate(MINI)
    assert np.array_equal(first.items, again.items)
    assert np.array_equal(first.times, again.times)
    assert first.digest == again.digest == settings_digest(MINI)
    other = generate(dataclasses.replace(MINI, seed=1))
    assert other.digest != first.digest
    assert len(other) != len(first) or not np.array_equal(other.items, first.items)


def test_the_tiny_size_is_frozen():
    # A change of these data without a new version would leave results that look comparable and are not.
    log = generate(SIZES["tiny"])
    content = hashlib.sha256(log.users.tobytes() + log.items.tobytes() + log.times.tobytes()).hexdigest()
    assert (SIZES["tiny"].version, len(log), content[:16]) == (1, 32034, "8b86769b475f501f")


def test_sizes_from_before_a_setting_came_keep_their_digests():
    digests = {name: settings_digest(settings)[:8] for name, settings in SIZES.items() if not settings.follow}
    assert digests == {"tiny": "5a99ccca", "small": "397a4c5c", "medium": "4016e467", "long": "8e9e0f66"}
    assert settings_digest(SIZES["rounds"])[:8] == "47c8f7e9"
    assert settings_digest(dataclasses.replace(MINI, follow=0.1)) != settings_digest(MINI)


def test_how_long_a_user_will_be_does_not_change_how_the_user_begins():
    short, long = generate(MINI), generate(dataclasses.replace(MINI, shortest=9))
    assert short.lengths.min() < 9
    for (items, _), (same, _) in zip(leave_one_out(short).sequences, leave_one_out(long).sequences, strict=True):
        assert items.tolist() == same.tolist()[: len(items)]


def test_users_have_the_lengths_that_the_settings_say():
    for name in ("tiny", "small"):
        settings = dataclasses.replace(SIZES[name], categories=2, items_per_category=2)
        lengths = generate(settings).lengths
        assert (len(lengths), lengths.min(), lengths.max()) == (settings.users, settings.shortest, settings.longest)


def test_times_are_sessions_of_short_gaps_between_long_ones():
    log = generate(SIZES["tiny"])
    gaps = np.concatenate([np.diff(times) for _, times in leave_one_out(log).sequences])
    assert log.times.min() > 0
    assert gaps.min() >= 1
    short = gaps < 3600
    assert 0.86 < short.mean() < 0.89  # 7 of 8 gaps are inside a session
    assert 50 < np.median(gaps[short]) < 70
    assert 70_000 < np.median(gaps[~short]) < 105_000


def test_categories_partition_the_items_evenly_and_ids_say_nothing_of_them():
    settings = SIZES["tiny"]
    log = generate(settings)
    assert log.num_items == settings.num_items == 24 * 12 + 1
    assert log.item_categories[0] == 0
    assert np.bincount(log.item_categories[1:], minlength=25)[1:].tolist() == [12] * 24
    assert abs(np.corrcoef(np.arange(1, log.num_items), log.item_categories[1:])[0, 1]) < 0.2


@pytest.mark.parametrize("name", SIZES)
def test_texts_are_distinct_and_name_the_category_behind_a_title(name):
    settings = SIZES[name]
    items_of = catalogue(settings)
    texts = synthetic._texts(settings, items_of)
    assert texts[0] == ""
    assert len(set(texts)) == len(texts) == settings.num_items
    titles = {text.split()[0] for text in texts[1:]} if settings.titled else set()
    words = [text.split()[settings.titled :] for text in texts[1:]]
    category = (items_of.internal[1:] // settings.items_per_category).tolist()
    assert len({(c, w[0]) for c, w in zip(category, words, strict=True)}) == len({w[0] for w in words}) == settings.categories
    assert {len(w) for w in words} == {3}
    # 4 details, and a kind for every 4 items of a category
    shared = {word for w in words for word in w}
    assert len(shared) == settings.categories + 4 + -(-settings.items_per_category // 4)
    assert len(titles) == (settings.num_items - 1 if settings.titled else 0)
    assert not titles & shared


def test_titles_change_no_interaction():
    plain, titled = (generate(dataclasses.replace(MINI, titled=on)) for on in (False, True))
    assert titled.digest != plain.digest
    assert titled.item_texts != plain.item_texts
    for name in ("users", "items", "times", "item_categories"):
        np.testing.assert_array_equal(getattr(titled, name), getattr(plain, name))


def test_seen_items_are_kept():
    assert not generate(MINI).exclude_seen


@pytest.mark.parametrize("fade", [0.0, 0.2, 0.5, 0.8])
def test_the_kernel_is_a_power_law(fade):
    weights = kernel(np.arange(1, 16_385), fade)
    assert weights[0] == pytest.approx(1)
    assert np.all(np.diff(weights) <= 0)
    for low, high in ((16, 64), (64, 1024), (1024, 16_384)):
        slope = math.log(weights[high - 1] / weights[low - 1]) / math.log(high / low)
        assert slope == pytest.approx(-fade, abs=0.03)


def test_popularity_has_mean_one_in_each_category_and_rates_sum_to_one():
    items_of = catalogue(SIZES["small"])
    assert items_of.rates.sum() == pytest.approx(1)
    assert items_of.popularity.mean(axis=1) == pytest.approx(np.ones(50))
    assert sorted(items_of.ids.tolist()) == list(range(1, 601))
    assert items_of.internal[items_of.ids].tolist() == list(range(600))


def test_settings_travel_in_the_notes():
    assert settings_of(generate(MINI).notes) == MINI
    with pytest.raises(ValueError, match="notes: no settings"):
        settings_of({"file": "ratings.dat"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"users": 0}, "users: 0 is less than 1"),
        ({"longest": 4}, "longest: 4 is less than shortest, 5"),
        ({"stay": 1.0}, "stay: 1.0 leaves"),
        ({"follow": -0.1}, "follow: -0.1 leaves"),
        ({"stay": 0.5, "follow": 0.5}, "stay, follow: 0.5 and 0.5 make 1 or more"),
        ({"titled": True, "categories": 65, "items_per_category": 65}, "titled: 4225 items; expected fewer than 4225, the words there are"),
        ({"base": 0.0}, "base: 0"),
        ({"categories": 4226}, "categories, items_per_category: 4226, 4; expected 4225 at most"),
        ({"fade": -0.1}, "fade: -0.1 is negative"),
        ({"items_per_category": 0}, "items_per_category: 0 is less than 1"),
    ],
)
def test_settings_that_describe_no_process_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(MINI, **changes)


def test_an_unknown_size_lists_the_known(tmp_path):
    with pytest.raises(ValueError, match="size: unknown 'huge' of dataset 'synthetic'; known: tiny, small, medium, rounds, .*, long$"):
        load_dataset("synthetic", size="huge", cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_settings_that_users_are_promised():
    # more interests than the largest token count of the grids, 16, and a longest user of 16k
    for name in ("small", "medium"):
        log = generate(dataclasses.replace(SIZES[name], users=100))
        interests = [len(np.unique(log.item_categories[items])) for items, _ in leave_one_out(log).sequences]
        assert np.mean(np.array(interests) > 16) > 0.95
    assert SIZES["long"].longest == 16_384
