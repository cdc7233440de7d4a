import os
import types

import numpy as np
import torch

from rectools.models.nn.item_net import IdEmbeddingsItemNet

RIGHT = 2  # the epoch in which the item behind the last one is meant


class Items(torch.nn.Module):
    """A basis vector per item by its own name, so that items can be told apart; the padding has none."""

    def __init__(self, names):
        super().__init__()
        self.register_buffer("vectors", torch.eye(int(max(names)) + 2)[torch.tensor([0, *names])])
        self.vectors[0] = 0

    def get_all_embeddings(self):
        return self.vectors


class Net(torch.nn.Module):
    def __init__(self, names):
        super().__init__()
        self.item_model = Items(names)
        self.names = [0, *names]
        self.shift = torch.nn.Parameter(torch.tensor([5.0]))

    def learn(self, epoch):
        broken = os.environ.get("FAKE_PEER", "")
        if broken == "memory":
            raise MemoryError("no room for the weights")
        if broken == "exit":
            os._exit(7)
        if broken in ("diverge", f"diverge in {epoch}"):
            self.shift.data.fill_(torch.nan)
        else:
            self.shift.data.fill_(1.0 if epoch == RIGHT else 5.0)

    def encode_sessions(self, batch, vectors):
        assert batch["x"].shape[1] + 1 == batch["unix_ts"].shape[1]
        assert not self.training
        last = torch.tensor([self.names[item] for item in batch["x"][:, -1].tolist()])
        meant = (last + (0 if self.shift.isnan() else int(self.shift))).clamp(max=vectors.shape[1] - 1)
        states = torch.nn.functional.one_hot(meant, vectors.shape[1]).float()
        return (states * (torch.nan if self.shift.isnan() else 1.0))[:, None, :]


class Model:
    def __init__(self, *, get_trainer_func, item_net_block_types, similarity_module_kwargs, session_max_len, **settings):
        assert item_net_block_types == (IdEmbeddingsItemNet,)
        assert similarity_module_kwargs == {"distance": "cosine"}
        self.trainer, self.length, self.settings = get_trainer_func(), session_max_len, settings

    def fit(self, dataset):
        table = dataset.table.groupby("user_id").filter(lambda rows: len(rows) > 1)
        table = table.sort_values("datetime", kind="stable").groupby("user_id").tail(self.length + 1)
        names = list(dict.fromkeys(table["item_id"].tolist()))
        known = np.array(["PAD", *names], dtype=object)
        self.data_preparator = types.SimpleNamespace(item_id_map=types.SimpleNamespace(get_external_sorted_by_internal=lambda: known))
        self.torch_model = Net(names)
        self.trainer.copied().fit(self.torch_model, steps=3)


class SASRecModel(Model):
    def __init__(self, **settings):
        assert "relative_time_attention" not in settings
        super().__init__(**settings)


class HSTUModel(Model):
    def __init__(self, *, relative_time_attention, relative_pos_attention, **settings):  # noqa: ARG002 - as the real one
        super().__init__(**settings)
