"""The fast predictor against one written from the definition, and the generated data against both."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from persrec.data.ceiling import ceiling, expected_metrics, next_item_probabilities
from persrec.data.splits import Sequences, leave_one_out, temporal
from persrec.data.synthetic import SIZES, SyntheticSettings, catalogue, generate

SETTINGS = SyntheticSettings(users=40, shortest=3, longest=30, categories=4, items_per_category=6)


def naive_kernel(age, fade):
    """Time constant 4**j has the share 4**-(j * fade) of the whole; what is beyond the ninth does not fade."""
    ratio = 4**-fade
    return sum((1 - ratio) * ratio**j * math.exp(-(age - 1) / 4**j) for j in range(9)) + ratio**9


def naive_probabilities(settings, items_of, items):
    """``[V]`` probabilities of the next item after ``items``, one sum at a time."""
    n = len(items)
    place = {int(items_of.ids[i]): divmod(i, settings.items_per_category) for i in range(settings.num_items - 1)}
    memory = [0.0] * settings.categories
    for position, item in enumerate(items):
        memory[place[item][0]] += naive_kernel(n - position, settings.fade)
    probabilities = np.zeros(settings.num_items)
    for category in range(settings.categories):
        chance = (settings.base * items_of.rates[category] + memory[category]) / (settings.base + sum(memory))
        if n:
            last = place[items[-1]][0]
            session = settings.stay * (category == last) + settings.follow * (category == (last + 1) % settings.categories)
            chance = session + (1 - settings.stay - settings.follow) * chance
        weights = {
            item: items_of.popularity[category, inner] + settings.repeat * items.count(item)
            for item, (its_category, inner) in place.items()
            if its_category == category
        }
        for item, weight in weights.items():
            probabilities[item] = chance * weight / sum(weights.values())
    return probabilities


def flat(histories):
    lengths = [len(history) for history in histories]
    items = np.array([item for history in histories for item in history], dtype=np.int64)
    return Sequences(offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items=items, times=np.zeros_like(items))


@pytest.mark.parametrize("changes", [{}, {"stay": 0.0}, {"stay": 0.7}, {"follow": 0.6}, {"fade": 0.0}, {"fade": 2.0}, {"repeat": 0.0}])
def test_the_predictor_is_the_definition(changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    items_of = catalogue(settings)
    random = np.random.Generator(np.random.PCG64(3))
    histories = [random.integers(1, settings.num_items, size=length).tolist() for length in (0, 1, 2, 5, 6, 40)]
    fast = next_item_probabilities(settings, items_of, flat(histories))
    assert fast.sum(axis=1) == pytest.approx(np.ones(6))
    for row, history in zip(fast, histories, strict=True):
        assert row == pytest.approx(naive_probabilities(settings, items_of, history), rel=1e-12)


@pytest.mark.parametrize("follow", [0.0, 0.6])
@pytest.mark.parametrize("place", [22, 23])
def test_generated_items_follow_the_predictor(place, follow):
    # Under the predictor each of these sums has mean 0 and the variance computed beside it; a rule generated otherwise (ages
    # off by one, a memory that fades too fast, a session that follows another category, takes that fade) moves one by many
    # deviations.
    settings = dataclasses.replace(SETTINGS, users=6000, shortest=24, longest=24, fade=0.8, base=0.5, repeat=2.0, follow=follow)
    log = generate(settings)
    items_of = catalogue(settings)
    histories = log.items.reshape(settings.users, 24)
    past, target = histories[:, :place], histories[:, place]
    truth = next_item_probabilities(settings, items_of, flat(past.tolist()))
    everyone = np.arange(settings.users)
    category = np.concatenate([[-1], items_of.internal[1:] // settings.items_per_category])
    took = np.zeros((settings.users, settings.num_items), dtype=int)
    np.add.at(took, (everyone[:, None], past), 1)
    features = {"took": took, "log p": np.log(np.maximum(truth, 1e-300))}
    for age in (1, 2, 3, 5, 9, 17, place):
        features[f"item of age {age}"] = np.arange(settings.num_items)[None, :] == past[:, -age][:, None]
        features[f"category of age {age}"] = category[None, :] == category[past[:, -age]][:, None]
    for item in range(1, settings.num_items):
        features[f"item {item}"] = np.arange(settings.num_items)[None, :] == item
    assert len(features) == 2 + 2 * 7 + 24
    for name, values in features.items():
        feature = np.broadcast_to(values, truth.shape).astype(float)
        mean = (truth * feature).sum(axis=1)
        variance = (truth * feature**2).sum(axis=1) - mean**2
        deviations = (feature[everyone, target] - mean).sum() / math.sqrt(variance.sum())
        assert abs(deviations) < 3.5, (name, deviations)


def naive_metrics(truth, scores):
    order = sorted(range(len(scores)), key=lambda item: -scores[item])
    metrics = {f"recall@{k}": sum(truth[item] for item in order[:k]) for k in (5, 10, 50)}
    return metrics | {f"ndcg@{k}": sum(truth[item] / math.log2(place + 2) for place, item in enumerate(order[:k])) for k in (5, 10, 50)}


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize("recent", [1, 4, 100])
def test_the_ceiling_is_the_naive_sum(recent, part):
    log = generate(SETTINGS)
    items_of = catalogue(SETTINGS)
    back = {"validation": 2, "test": 1}[part]
    sums = {"whole_past": {}, "last_recent": {}}
    for items, _ in leave_one_out(log).sequences:
        past = items.tolist()[:-back]
        truth = naive_probabilities(SETTINGS, items_of, past)
        for name, scores in (("whole_past", truth), ("last_recent", naive_probabilities(SETTINGS, items_of, past[-recent:]))):
            for metric, value in naive_metrics(truth, scores).items():
                sums[name][metric] = sums[name].get(metric, 0) + value / 40
    found = ceiling(log, leave_one_out(log), recent=recent, part=part)
    assert found == {name: pytest.approx(metrics, rel=1e-9) for name, metrics in sums.items()}


def test_a_users_several_targets_count_as_their_mean():
    log = generate(SETTINGS)
    data, items_of = temporal(log), catalogue(SETTINGS)
    of_users = {}
    for user, position in zip(data.test.users.tolist(), data.test.positions.tolist(), strict=True):
        truth = naive_probabilities(SETTINGS, items_of, data.sequences[user][0][:position].tolist())
        of_users.setdefault(user, []).append(naive_metrics(truth, truth)["ndcg@10"])
    assert len({len(values) for values in of_users.values()}) > 1
    expected = np.mean([np.mean(values) for values in of_users.values()])
    assert ceiling(log, data, recent=4)["whole_past"]["ndcg@10"] == pytest.approx(expected, rel=1e-9)


def test_the_whole_past_is_as_good_as_the_last_items_once_they_are_the_whole_past():
    log = generate(SETTINGS)
    found = ceiling(log, leave_one_out(log), recent=30)
    assert found["last_recent"] == found["whole_past"]


def test_expected_metrics_by_hand():
    truth = np.array([[0.0, 0.5, 0.3, 0.2]])
    found = expected_metrics(truth, np.array([[-1.0, 1.0, 3.0, 2.0]]))  # order: 2, 3, 1, padding
    assert found["recall@5"] == pytest.approx([1.0])
    assert found["ndcg@5"] == pytest.approx([0.3 + 0.2 / math.log2(3) + 0.5 / 2])


def test_the_long_past_is_worth_having_and_users_differ():
    settings = dataclasses.replace(SIZES["small"], users=300)
    log = generate(settings)
    whole, last = ceiling(log, leave_one_out(log), recent=16).values()
    assert last["ndcg@10"] / whole["ndcg@10"] < 0.85
    assert last["recall@50"] / whole["recall@50"] < 0.6
    data = leave_one_out(log)
    truth = next_item_probabilities(settings, catalogue(settings), data.past("test"))
    popular = expected_metrics(truth, np.tile(data.train_counts().astype(float), (300, 1)))
    assert last["ndcg@10"] > 5 * popular["ndcg@10"].mean()


def test_the_predictor_of_the_last_items_is_about_the_best_of_its_kind():
    # else a model of the last items alone would pass the figure it is shown beside
    settings = dataclasses.replace(SIZES["small"], users=300)
    items_of, past = catalogue(settings), leave_one_out(generate(settings)).past("test")
    truth = next_item_probabilities(settings, items_of, past)
    recent = flat([items[-16:].tolist() for items, _ in past])
    found = {}
    for base, repeat in itertools.product((3.0, 30.0, 300.0), (6.0, 60.0, 600.0)):
        others = dataclasses.replace(settings, base=base, repeat=repeat)
        found[base, repeat] = expected_metrics(truth, next_item_probabilities(others, items_of, recent))["ndcg@10"].mean()
    assert max(found.values()) < 1.02 * found[30.0, 60.0]


def test_a_log_that_is_not_synthetic_and_no_recent_items_are_refused():
    log = generate(SETTINGS)
    with pytest.raises(ValueError, match="recent: 0 is less than 1"):
        ceiling(log, leave_one_out(log), recent=0)
    with pytest.raises(ValueError, match="notes: no settings"):
        ceiling(dataclasses.replace(log, notes={}), leave_one_out(log), recent=4)
