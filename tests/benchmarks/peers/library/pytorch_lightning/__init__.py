"""Stands in for Lightning: as much of a trainer as the worker asks for."""

import copy

import torch


def seed_everything(seed, workers):
    torch.manual_seed(seed)


class Trainer:
    def __init__(self, *, max_epochs, callbacks, accelerator, deterministic, **quiet):  # noqa: ARG002 - as the real one
        assert (accelerator, deterministic) == ("cpu", True)
        self.max_epochs, self.callbacks = max_epochs, callbacks
        self.should_stop, self.global_step, self.callback_metrics = False, 0, {}

    def fit(self, net, steps):
        for epoch in range(1, self.max_epochs + 1):
            for callback in self.callbacks:
                callback.on_train_epoch_start(self, net)
            net.train()
            net.learn(epoch)
            self.global_step += steps
            self.callback_metrics["train_loss"] = torch.tensor(1.0 / epoch)
            for callback in self.callbacks:
                callback.on_train_epoch_end(self, net)
            assert net.training
            if self.should_stop:
                return

    def copied(self):
        """RecTools copies its trainer, with its callbacks, before it fits."""
        return copy.deepcopy(self)
