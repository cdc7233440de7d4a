"""A model that is elastic in history: with a shorter history it gives what its weights give of windows without the older items."""

import dataclasses

import numpy as np
import pytest
import torch
from small_models import BACKBONES_TIMED, TOLERANCE, WIDTH, build, experts, small_split

from persrec.compression.experts import Experts
from persrec.compression.full import Full
from persrec.data.windows import WindowBatch, WindowShape, build_windows
from persrec.evaluation.served import Serving, served_states
from persrec.evaluation.states import user_states
from persrec.layout import SegmentLayout
from persrec.serving import CacheStore

HISTORY, RECENT = 9, 4
DATA = small_split(users=17, longest=30)
ROWS = np.arange(len(DATA.test.users))
SHAPE = WindowShape(segments=(HISTORY,), recent=RECENT)


def fewer_tokens():
    """Two of the four experts that an elastic model holds."""
    compression = Experts(layout=SegmentLayout.equal(history=HISTORY, recent=RECENT, segments=1, tokens=4), width=WIDTH)
    compression.use(2)
    return compression


LAYOUTS = {
    "full": lambda: Full(history=HISTORY, recent=RECENT),
    "no token": lambda: experts([(HISTORY, 0)], window=HISTORY + RECENT),
    "2 tokens": lambda: experts([(HISTORY, 2)], window=HISTORY + RECENT),
    "2 of 4 tokens": fewer_tokens,
}
KEPT = [case for case in LAYOUTS if case != "no token"]  # of which something is kept


def cut_by_hand(history, *, staleness=0, part="test"):
    """Everyone's window with 0 in the slots of the items that are older than the newest ``history`` before the recent ones."""
    whole = build_windows(DATA.sequences, DATA.test.users, DATA.of(part).positions, SHAPE, gap=staleness)
    items, times = whole.items.copy(), whole.times.copy()
    items[:, : HISTORY - history] = 0
    times[:, : HISTORY - history] = 0
    return dataclasses.replace(whole, items=items, times=times)


def joint(model, windows: WindowBatch, *, time_bias, columns=slice(None)):
    items, times, query_times = (
        torch.from_numpy(part) for part in (windows.items[:, columns], windows.times[:, columns], windows.query_times)
    )
    with torch.no_grad():
        return model.user_states(items, *((times, query_times) if time_bias else (None, None)))


def served(model, *, time_bias=True, dtype="float32", **changes):
    serving = Serving(new_caches=lambda: CacheStore(layout=model.layout, dtype=dtype), **changes)
    return served_states(model, DATA, "test", serving=serving, time_bias=time_bias, batch_size=5)


@pytest.mark.parametrize(("backbone", "time_bias"), BACKBONES_TIMED)
@pytest.mark.parametrize("case", list(LAYOUTS))
def test_a_shorter_history_is_the_longer_one_without_its_older_items(backbone, case, time_bias):
    model = build(backbone, LAYOUTS[case]())
    for history in (1, 4, HISTORY):
        for part in ("validation", "test"):
            found = user_states(model, DATA, part, time_bias=time_bias, history=history, batch_size=5)
            torch.testing.assert_close(found, joint(model, cut_by_hand(history, part=part), time_bias=time_bias), **TOLERANCE)
        narrow = joint(model, cut_by_hand(history), time_bias=time_bias, columns=slice(HISTORY - history, None))
        torch.testing.assert_close(found, narrow, **TOLERANCE)  # as a server of this history runs it
    assert torch.equal(found, user_states(model, DATA, "test", time_bias=time_bias, batch_size=5))  # the longest is the whole


@pytest.mark.parametrize(("backbone", "time_bias"), BACKBONES_TIMED)
@pytest.mark.parametrize("case", KEPT)
def test_a_cache_of_a_shorter_history_answers_as_the_joint_pass_over_it(backbone, case, time_bias):
    model = build(backbone, LAYOUTS[case]())
    for history in (1, 4, HISTORY):
        expected = joint(model, cut_by_hand(history), time_bias=time_bias)
        torch.testing.assert_close(served(model, time_bias=time_bias, history=history), expected, **TOLERANCE)


@pytest.mark.parametrize("case", KEPT)
def test_older_items_change_nothing_and_the_newest_change_everyone_who_has_them(case):
    model = build("hstu", LAYOUTS[case]())
    older = DATA.test.positions - RECENT  # items before the recent ones
    found = {history: user_states(model, DATA, "test", time_bias=True, history=history) for history in (3, 4, 5)}
    for shorter, longer in ((3, 4), (4, 5)):
        changed = (found[longer] - found[shorter]).abs().amax(1) > 1e-6
        assert changed.tolist() == (older > shorter).tolist()


@pytest.mark.parametrize("case", KEPT)
@pytest.mark.parametrize("staleness", [1, 6])
def test_a_stale_history_has_as_many_items_and_ends_earlier(case, staleness):
    model = build("hstu", LAYOUTS[case]())
    found = served(model, history=4, staleness=staleness)
    torch.testing.assert_close(found, joint(model, cut_by_hand(4, staleness=staleness), time_bias=True), **TOLERANCE)


@pytest.mark.parametrize("ablation", ["shuffled_history", "other_user", "random_tokens"])
def test_an_ablation_touches_the_shorter_history_alone(ablation):
    """Who has no more items than the shorter history is served alike at both lengths where the others' caches play no part."""
    model = build("sasrec", LAYOUTS["2 tokens"]())
    short, whole = (served(model, history=history, ablation=ablation) for history in (4, None))
    fits = torch.from_numpy(DATA.test.positions - RECENT <= 4)
    if ablation == "shuffled_history":
        torch.testing.assert_close(short[fits], whole[fits], **TOLERANCE)
    assert not torch.allclose(short[~fits], whole[~fits], atol=1e-4)
    assert not torch.allclose(short, served(model, history=4), atol=1e-4)


def test_a_smaller_precision_is_of_the_shorter_historys_cache():
    model = build("hstu", LAYOUTS["2 tokens"]())
    exact, rounded = (served(model, history=4, dtype=dtype) for dtype in ("float32", "int8"))
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.1)
    assert not torch.equal(rounded, exact)
