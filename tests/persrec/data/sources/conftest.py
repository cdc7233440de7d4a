"""A publisher's folder lies in ``tmp_path``; what is read of it comes back under the publisher's own ids."""

import os
from pathlib import Path

import pytest

from persrec.data import SourceError, load_dataset
from persrec.data.base import Bounds
from persrec.data.prepared import ITEMS, USERS, raw_ids


@pytest.fixture
def at_hand():
    """The folder of the publishers' own files, which has ``file``; without it the test skips and says so."""
    data_dir = Path(os.environ.get("PERSREC_DATA") or Path(__file__).parents[5] / "shared" / "data")

    def found(file):
        if not (data_dir / file).is_file():
            pytest.skip(f"needs {data_dir / file}")
        return data_dir

    return found


@pytest.fixture
def load(tmp_path):
    def loaded(name, **given):
        return load_dataset(name, data_dir=tmp_path, cache_dir=tmp_path / "cache", bounds=Bounds(threads=1), **given)

    return loaded


@pytest.fixture
def events(tmp_path):
    """Rows of the only dataset that is prepared, as (user, item, time)."""

    def told(log):
        [folder] = (tmp_path / "cache").iterdir()
        users, items = raw_ids(folder, USERS), raw_ids(folder, ITEMS)
        return [(users[user], items[item - 1], time) for user, item, time in zip(log.users, log.items, log.times.tolist(), strict=True)]

    return told


@pytest.fixture
def described(tmp_path):
    """Text and name of the category of each item, by its id."""

    def told(log):
        [folder] = (tmp_path / "cache").iterdir()
        texts = log.item_texts[1:] if log.item_texts is not None else [None] * (log.num_items - 1)
        categories = [log.notes["category_names"][number] for number in log.item_categories[1:]]
        return dict(zip(raw_ids(folder, ITEMS), zip(texts, categories, strict=True), strict=True))

    return told


@pytest.fixture
def refusal(tmp_path, load):
    """The one line that a dataset is refused with, before anything is kept."""

    def told(name, **given):
        with pytest.raises(SourceError) as refused:
            load(name, **given)
        assert "\n" not in str(refused.value)
        assert not (tmp_path / "cache").exists()
        return str(refused.value)

    return told
