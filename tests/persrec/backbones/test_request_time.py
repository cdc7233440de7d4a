"""What a backbone that reads times knows of the time of a request."""

import pytest
import torch
from small_models import CASES, build, random_windows, with_hstu

pytestmark = pytest.mark.usefixtures("one_thread")


def time_free(case="1 expert"):
    """An HSTU of the same weights that is not told when a request comes, and one that is."""
    model, other = build("hstu", CASES[case]()), build("hstu", CASES[case]())
    return with_hstu(other, request_time=False), model


@torch.no_grad()
def test_without_it_the_time_of_a_request_changes_nothing_and_with_it_it_does():
    without, told = time_free()
    items, times, _ = random_windows(without.layout, holes=False)
    soon, late = times[:, -1] + 1, times[:, -1] + 10_000_000
    assert torch.equal(without.score(items, times, soon), without.score(items, times, late))
    assert not torch.equal(told.score(items, times, soon), told.score(items, times, late))
    assert not torch.equal(without.score(items, times), without.score(items, times - torch.arange(items.shape[1]).flip(0) * 100_000))


@torch.no_grad()
@pytest.mark.parametrize("case", ["full", "1 expert", "3 segments"])
def test_an_item_is_then_kept_at_once_and_served_as_the_joint_pass(case):
    without, _ = time_free(case)
    items, times, query_time = random_windows(without.layout, holes=False)
    history = without.layout.history
    cache = without.compress(items[:, :history], times[:, :history])
    torch.testing.assert_close(
        without.score(items[:, history:], times[:, history:], query_time, cache=cache), without.score(items, times), rtol=0, atol=1e-5
    )
    for stop in range(history + 1, items.shape[1] + 1):
        users, cache = without.append(items[:, stop - 1 : stop], times[:, stop - 1 : stop], cache=cache)
        assert cache.recent == stop - history
    torch.testing.assert_close(users, without.user_states(items, times), rtol=0, atol=1e-5)
