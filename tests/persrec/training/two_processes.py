"""What each process of a torchrun does in `test_several_processes`, and one process alone: trains small models, tells how it went."""

import contextlib
import json
import sys
from pathlib import Path
from unittest import mock

import torch
from small_models import CASES, build, small_recipe, small_split

from persrec.evaluation.ranks import target_ranks
from persrec.evaluation.states import evaluating, user_states
from persrec.items import texts
from persrec.training import SeveralProcesses, Team, Trainer, whole_state
from persrec.training.sharded import ShardedKeeper, save_shards

STEPS = 20
ONE, TWO = 10, 15  # steps after which one process, then two, leave a state for the others
DATA = small_split(users=12, shortest=8, longest=30)
RECIPES = {
    "hstu": small_recipe(epochs=50, patience=50, learning_rate=2e-3, recent_weight=2.0, recent_weight_steps=10),
    "elastic": small_recipe(epochs=50, patience=50, learning_rate=2e-3, token_counts=(0, 2, 6), accumulation=2),
    "experts predict": small_recipe(epochs=50, patience=50, learning_rate=2e-3, recent_weight=1.0, expert_weight=1.5, negatives=0),
    "taught": small_recipe(epochs=50, patience=50, learning_rate=2e-3, recent_weight=1.0, distillation=1.5, accumulation=2),
    "one window a step": small_recipe(epochs=50, patience=50, learning_rate=2e-3, targets_per_step=10),  # so that one process has none
    "hllm": small_recipe(epochs=50, patience=50, learning_rate=2e-3, targets_per_step=104),
}


class EnoughError(Exception):
    """The steps that were asked for are done."""


def model_of(case: str):
    torch.manual_seed(5)
    backbone = "hllm" if case == "hllm" else "hstu"
    compression = "elastic" if case == "elastic" else "3 segments"
    return build(backbone, CASES[compression](), lively=False)


@mock.patch.object(texts, "BATCH_TOKENS", 24)  # the windows of two processes have texts for one batch more or less
def trained(case: str, team: Team, keeper: ShardedKeeper | None = None, *, steps: int = STEPS):
    """Losses of so many steps, and the ranks that the model gives then."""
    losses = []

    def on_step(progress):
        if progress.steps >= steps:
            if keeper is not None:
                save_shards(keeper.path.parent, trainer._training(), team)
            raise EnoughError

    model = model_of(case)
    trainer = Trainer(model=model, data=DATA, recipe=RECIPES[case], validate=lambda: 1.0, on_step=on_step, keeper=keeper, team=team)
    own = trainer.step
    trainer.step = lambda batch: losses.append(float(loss := own(batch))) or loss
    with contextlib.suppress(EnoughError):
        trainer.run()
    whole = whole_state(model)
    alone = model_of(case)
    alone.load_state_dict(whole)
    return losses, alone


def ranks_of(model):
    """The rank of each target, and how many items have nearly its score: their order is rounding's."""
    with evaluating(model):
        states, features = user_states(model, DATA, "test", time_bias=True), model.item_features()
        targets = DATA.targets("test")
        ranks = target_ranks(states, features, targets, DATA.seen("test"))
        scores = states @ features.T
        own = scores[torch.arange(len(scores)), torch.as_tensor(targets)]
        near = ((scores - own[:, None]).abs() < 1e-3).sum(1) - 1
    return [float(rank) for rank in ranks], near.tolist()


def main() -> None:
    out, several = Path(sys.argv[1]), SeveralProcesses(torch.device("cpu"))
    told = {}
    for case in RECIPES:
        keeper = ShardedKeeper(out / case, several, every_s=1e9)
        losses, model = trained(case, several, keeper)
        taken_up, _ = trained(case, several, ShardedKeeper(out / f"{case} of one", several, every_s=1e9), steps=TWO)
        told[case] = {"losses": losses, "ranks": ranks_of(model), "size": several.size, "taken up": taken_up}
        if several.rank == 0:
            torch.save(model.state_dict(), out / f"{case}.pt")
    if several.rank == 0:
        (out / "told.json").write_text(json.dumps(told))
    several.leave()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
