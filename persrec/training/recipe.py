"""The settings of a training run."""

import math
from dataclasses import dataclass

MOST_SEED = 2**63 - 1  # torch takes no more


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a model is trained.

    Attributes:
        learning_rate: of AdamW, in the constant phase (`persrec.training.phases`).
        item_learning_rate: of the item vectors, or of what reads them from texts; None is ``learning_rate``. In the grid
            ``interests`` a text reader from random weights that learnt as fast as the rest (1.5e-3) soon gave all items of a category
            one vector, before attention had found which of them a user takes, and stayed so.
        expert_learning_rate: of what a compression learns, as expert tokens; None is ``learning_rate``.
        warmup_steps: steps over which the learning rate of everything but the item vectors rises from 0. Without it, an
            HSTU's layers, whose inputs are normalised and whose output is not, outrun the small item vectors and the
            states collapse to one direction for hundreds of steps.
        decays: whether the learning rate falls linearly to 0 behind the constant phase, from the best weights.
        weight_decay: of AdamW.
        temperature: what cosines are divided by in the loss.
        negatives: items sampled uniformly per step, shared by the batch, at every length the same number; 0 takes every item of the
            catalogue, the full cross-entropy. Of a model that counts, each of a position's own items stands there twice: with what is
            added for its count, and plainly.
        epochs: of the constant phase at most. An epoch has as many steps as all next-item targets of the training part fill.
        patience: epochs without a gain on validation that make a plateau, which ends the constant phase; two at least, and a fifth
            of the steps so far at least. Less than 1% is no gain.
        targets_per_step: next-item targets per step, without padding. Windows that carry fewer share a step in larger number, so
            every layout has as many targets a step and as many steps an epoch. A step holds one window at least.
        time_bias: whether times are given.
        recent_weight: weight that the recent items' mean loss, beside that of all positions, which weighs 1, reaches after
            ``recent_weight_steps``; it rises from 0 with the square of the steps. A request is answered from the recent items. Behind
            a history of one segment they alone read the tokens, so without this weight few of a window's positions would teach them.
        expert_weight: weight of the expert tokens' mean loss beside that of all positions, which weighs 1: each predicts the item that
            follows its segment, as the segment's last item does. 0 leaves the tokens to what later items read from them. Not in the
            paper.
        distillation: weight of what the recent positions learn from full attention by the same weights, beside the losses of both
            passes, which weigh 1 each (`persrec.training.distillation`); 0 runs no such pass.
        recent_weight_steps: steps until that weight is reached; no bound on the training moves it.
        moving_windows: whether a user's newest window may end at any of as many last places as a window has targets, with one item
            of history at least; the others lie back to back before it. Else ends move only where a sequence is longer than a
            window; then, behind a history of one segment, the same few of a user's items are predicted with the tokens in every
            round, and learnt by heart.
        random_cuts: whether each step draws anew where the segments of the history end, so that tokens do not learn one length alone; what
            is served, and validated, ends as the plan says. Of two segments or more. Not in the paper.
        token_counts: an elastic model draws one of these expert counts per step, larger ones more often (`rank_chances`); empty
            trains the model's own count.
        history_lengths: each step draws one of these lengths of the history, longer ones more often, and the windows' older items are
            left out, so that one model serves every length; empty trains with the whole history.
        accumulation: parts that a process takes its windows of a step in, one after the other; the step's numbers stay the same but
            for rounding.
        autocast: whether the joint pass and what reads texts compute in bfloat16, from weights in float32.
        seed: of every random choice.
    """

    learning_rate: float
    warmup_steps: int
    decays: bool
    weight_decay: float
    temperature: float
    negatives: int
    epochs: int
    patience: int
    targets_per_step: int
    time_bias: bool
    item_learning_rate: float | None = None
    expert_learning_rate: float | None = None
    recent_weight: float = 0.0
    expert_weight: float = 0.0
    distillation: float = 0.0
    recent_weight_steps: int = 1000
    moving_windows: bool = False
    random_cuts: bool = False
    token_counts: tuple[int, ...] = ()
    history_lengths: tuple[int, ...] = ()
    accumulation: int = 1
    autocast: bool = False
    seed: int

    def __post_init__(self) -> None:
        if self.negatives < 0:
            raise ValueError(f"negatives: {self.negatives}; expected 0, which is every item, or more")
        for name in ("epochs", "patience", "targets_per_step", "recent_weight_steps", "accumulation"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}; expected at least 1")
        for name in ("learning_rate", "item_learning_rate", "expert_learning_rate", "temperature"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}: {value}; expected a finite number, more than 0")
        for name in ("warmup_steps", "weight_decay", "recent_weight", "expert_weight", "distillation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: {getattr(self, name)}; expected a finite number, 0 or more")
        if not 0 <= self.seed <= MOST_SEED:
            raise ValueError(f"seed: {self.seed}; expected 0 to {MOST_SEED}")
