"""What each precision loses, and what it takes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import CASES, build, random_windows

from persrec.nn.cache import KVCache
from persrec.serving import pack

pytestmark = pytest.mark.usefixtures("one_thread")


def random_cache(*, seed=0, users=3, positions=5, heads=2, width=4, layers=2, size=1.0):
    """Keys and values whose size differs by token and head, by up to four decades."""
    numbers = torch.Generator().manual_seed(seed)
    tensors = []
    for _ in range(2 * layers):
        tensor = torch.randn(users, heads, positions, width, generator=numbers)
        tensors.append(size * tensor * 10 ** (4 * torch.rand(users, heads, positions, 1, generator=numbers) - 2))
    return KVCache(
        layers=tuple(zip(tensors[::2], tensors[1::2], strict=True)),
        positions=torch.arange(positions),
        valid=torch.ones(users, positions, dtype=torch.bool),
        times=None,
        segments=1,
        layout="",
    )


def pairs(cache, other):
    return [(a, b) for ours, theirs in zip(cache.layers, other.layers, strict=True) for a, b in zip(ours, theirs, strict=True)]


@given(seed=st.integers(0, 10_000), size=st.sampled_from([1e-6, 1.0, 1e6]))
def test_no_number_of_int8_is_further_off_than_half_its_vectors_scale(seed, size):
    cache = random_cache(seed=seed, size=size)
    for kept, found in pairs(cache, pack(cache, "int8").unpack()):
        scale = kept.abs().amax(-1, keepdim=True) / 127  # of one token's one head
        assert ((found - kept).abs() <= scale / 2 * (1 + 1e-4)).all()
        assert not torch.equal(found, kept)
        torch.testing.assert_close(found.abs().amax(-1), kept.abs().amax(-1), rtol=1e-5, atol=0)


@given(seed=st.integers(0, 10_000))
def test_bfloat16_keeps_eight_bits_and_float32_all(seed):
    cache = random_cache(seed=seed)
    for kept, found in pairs(cache, pack(cache, "bfloat16").unpack()):
        assert ((found - kept).abs() <= kept.abs() * 2**-8).all()
        assert not torch.equal(found, kept)
    for kept, found in pairs(cache, pack(cache, "float32").unpack()):
        assert torch.equal(found, kept)


def test_a_vector_of_zeros_stays_one():
    cache = random_cache()
    for pair in cache.layers:
        pair[0][:, 0, 0] = 0.0
    for kept, found in pairs(cache, pack(cache, "int8").unpack()):
        assert torch.equal(found == 0, (found == 0) | (kept == 0))
    assert torch.equal(pack(cache, "int8").unpack().layers[0][0][:, 0, 0], torch.zeros(3, 4))


def test_bytes_hold_the_scales():
    cache = random_cache(users=3, positions=5, heads=2, width=4, layers=2)
    numbers, vectors = 5 * 2 * 2 * 2 * 4, 5 * 2 * 2 * 2
    found = {dtype: pack(cache, dtype).nbytes_per_user for dtype in ("float32", "bfloat16", "int8")}
    assert found == {"float32": 4 * numbers, "bfloat16": 2 * numbers, "int8": numbers + 4 * vectors}
    assert found["float32"] == cache.nbytes_per_user


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 0.0), ("bfloat16", 0.03), ("int8", 0.05)])
@torch.no_grad()
def test_scores_move_by_little(dtype, atol):
    model = build("sasrec", CASES["3 segments"]())
    items, times, _ = random_windows(model.layout, holes=False)
    cache = model.compress(items[:, :9], times[:, :9])
    exact = model.score(items[:, 9:], times[:, 9:], cache=cache)
    found = model.score(items[:, 9:], times[:, 9:], cache=pack(cache, dtype).unpack())
    torch.testing.assert_close(found, exact, rtol=0, atol=atol)
    assert torch.equal(found, exact) == (dtype == "float32")


def test_what_cannot_be_kept_is_refused():
    with pytest.raises(ValueError, match=r"^dtype: unknown 'float16'; known: float32, bfloat16, int8$"):
        pack(random_cache(), "float16")
    cache = random_cache()
    cache.layers[1][1][0, 0, 0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"^cache: holds NaN or infinity; expected finite keys and values$"):
        pack(cache, "bfloat16")
    double = random_cache()
    double = KVCache(
        layers=tuple((k.double(), v.double()) for k, v in double.layers),
        positions=double.positions, valid=double.valid, times=None, segments=1, layout="",
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"^cache: of float64; expected float32 or bfloat16$"):
        pack(double, "int8")
