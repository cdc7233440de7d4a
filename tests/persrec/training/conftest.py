import pytest
import torch

from persrec.training import objective


@pytest.fixture
def steps(monkeypatch):
    """What every optimiser step saw: the learning rates of its groups, and the shapes that went into the loss."""
    seen = []
    own_step, own_loss = torch.optim.AdamW.step, objective.sampled_softmax

    def step(self, *args, **kwargs):
        seen[-1]["rates"] = [group["lr"] for group in self.param_groups]
        return own_step(self, *args, **kwargs)

    def loss(states, positives, negatives, target_ids, negative_ids, *, temperature):
        value = own_loss(states, positives, negatives, target_ids, negative_ids, temperature=temperature)
        step = {"targets": len(target_ids), "negatives": len(negative_ids), "negative_ids": negative_ids, "temperature": temperature}
        seen.append(step | {"loss": float(value.detach())})
        return value

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    monkeypatch.setattr(objective, "sampled_softmax", loss)
    return seen
