"""The standing texts of the report: what each section shows and how it is to be read."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from benchmarks.analysis.estimates import Estimate, with_interval
from benchmarks.text import listed

_SERVING_IN_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "recompute": "recomputing the window at each request",
        "cache": "from its own cache",
        "append": "from its own cache, the new item alone",
    }
)
RESUME_ALWAYS = (
    "A command that measures again names its one cell after --select; --resume always measures it although a good record of it is there, "
    "which the new one replaces."
)
TITLES: Mapping[str, str] = MappingProxyType(
    {
        "advise": "Your budget",
        "settings": "Settings and words",
        "frontier": "Cost against quality",
        "ranking": "Every configuration, ranked",
        "tokens": "Quality against tokens",
        "history": "Quality and cost against history length",
        "segments": "Quality against segments",
        "comparisons": "Paired comparisons",
        "ablations": "Do the tokens carry the user?",
        "staleness": "Quality while a cache ages",
        "precision": "Precision of the cache",
        "shares": "Share of full attention",
        "amortisation": "Amortisation and break-even",
        "feasibility": "Feasibility map",
        "ledger": "FLOP ledger",
        "kernels": "Attention kernels",
        "noise": "Noise",
        "failures": "Failures and what is missing",
        "provenance": "Provenance",
        "limits": "Limits of what was measured",
    }
)

LEADS: Mapping[str, str] = MappingProxyType(
    {
        "kernels": (
            "Medians of ratios, measured in turn by benchmarks.kernels. They belong to the machine, not to this run. "
            "Time over FLOPs is 1 where a part takes the same share of the time as of the floating-point operations."
        ),
        "advise": (
            "Say what a request may take, what may be stored of a user, and how much quality has to stay. With scripts on, the page lists "
            "what fits, from a fresh cache. python -m benchmarks.advise gives the same answer on a command line, and adds intervals, aged "
            "caches, the lines of Python that serve the choice, and machines and money for a fleet. Quality kept is a share of that of the "
            "best full history of all backbones at the longest window."
        ),
        "settings": (
            "What was the same for every model, what was varied, and what the words mean. The project's docs/reading-a-report.md says how "
            "to read each figure, docs/protocol.md how each number is taken and why it may differ from a paper's."
        ),
        "frontier": "Quality on the next item, ranked over the full catalogue, against what a request costs. A panel for each backbone.",
        "ranking": (
            "Intervals are 95%, below each value. A quality's is over the users of one seed where there is one, else over users or seeds, "
            "the wider; a time's is over processes. "
            "With scripts on, a heading sorts, the buttons keep one family or backbone, and a click on a row shows all of its numbers, its "
            "record and the command that measures it again."
        ),
        "tokens": (
            "The point at 0 tokens is the same layout with its history hidden, one of those that no token, the control, is chosen from. "
            "The band is full history's 95% interval."
        ),
        "history": "Does a longer history pay, and who can afford it?",
        "comparisons": (
            "Differences are paired: the same users are drawn for both, so what makes a user hard cancels. Over several seeds the "
            "interval is that of users or of seeds (Student's t), the wider. With one seed it covers users alone, and the numbers are "
            "given without a verdict. Each reference is the best on validation of the models that were trained. "
            "The share kept (retention) is quality over full history's on the same backbone and window, not quoted where the long history "
            "is worth nothing measurable. "
            "Recovered is (quality \N{MINUS SIGN} no token) / (full \N{MINUS SIGN} no token), "
            "undefined where its denominator is not above five half-widths of its 95% interval."
        ),
        "segments": (
            "The same number of tokens, behind one segment of the history or spread over several; growing segments double in size "
            "towards the past."
        ),
        "ablations": (
            "A trained model is served with something else in place of a user's own tokens: random vectors with the mean and deviation of "
            "all users' tokens, the tokens of the same items in another order, or another user's tokens. What is lost is what a user's own "
            "tokens carry. "
            "These cells take no part in the frontiers, the ranking and the comparisons above."
        ),
        "staleness": (
            "The target and the recent items stay. The history ends earlier, by the number of items that is given, and the model sees "
            "nothing of the items between. These cells take no part in the frontiers, the ranking and the comparisons above."
        ),
        "precision": "Every user is served from a cache stored at that precision. Its bytes include the scales.",
        "shares": (
            "What a request costs as a share of full attention over the whole window, at the same sizes: first served from a cache in the "
            "same way, last recomputed at each request. Both run in turn in one process, in batches, so a ratio of times holds on other "
            "machines better than a time does. The ratio of executed FLOPs is shown beside it."
        ),
        "amortisation": (
            "A refresh compresses the history once and serves r requests: (compress + r \N{MULTIPLICATION SIGN} serve) / r each. "
            "The rivals are full attention over the whole window at every request, and full attention from its own KV cache, "
            "cheaper per request but with far more bytes per user. Assumed: every request brings a full recent segment, nothing is "
            "extended between refreshes, and moving a cache costs nothing. Break-even says from how many requests per refresh a "
            "configuration costs no more, in FLOPs and, from measured throughput, in the backbone's time: not decided where the intervals "
            "over processes leave both open. Where a model was served from older histories, "
            "its quality is averaged over the ages from 0 to r \N{MINUS SIGN} 1 items, as if a user acted once between two requests."
        ),
        "feasibility": "How each cell ended; empty where the grid has no cell. Columns are history + recent items.",
        "ledger": (
            "FLOPs are counted in three ways, by the layout's closed formula, torch's counter and fvcore, and must agree within 1%; "
            "a configuration whose counts do not agree cannot win a frontier. Visible is what the method needs, executed what ran "
            "(masked attention computes hidden pairs, too). A multiply-add is 2 FLOPs. Item vectors that a model computes, from texts "
            "or by a map, are kept before a request; what they cost is the pass item, over the catalogue, and a share of a training step."
        ),
        "noise": "How far a number moves when nothing changed.",
        "failures": "",
        "provenance": f"Where the numbers come from and how to get them again. {RESUME_ALWAYS}",
        "limits": "",
    }
)

READING_A_FRONTIER = (
    "A point is a configuration with its 95% interval over users, or over seeds where there are several and that is wider. A dark edge "
    "and a dagger mark a model that had not converged. Up and to the left is better. The line joins those that nothing of the same "
    "backbone beats in both cost and quality, the dotted line those of all backbones; the others are faded. The tables say how often each "
    "is on the line when users are drawn anew, and which rival beats it at 95% over three seeds or more of equal training."
)
NO_A_A = (
    "The same code measured against itself (A/A): not measured beside these records; python -m benchmarks.noise does it and writes "
    "results/noise/aa.json."
)

ALWAYS_LIMITED = (
    (
        "Quality is that of a fresh cache unless a section says otherwise. Where aged caches of a model were measured, the page shows "
        "beside the amortised cost how its quality falls with age."
    ),
    (
        "How sure a place on the frontier is comes from random draws. Quality is drawn anew over users; a timed cost or a peak of memory "
        "is drawn from its interval over processes. A counted cost is one value. A cost that was timed in one process has no interval, so "
        "nothing about it is sure. Many configurations are compared at once, without a correction for that."
    ),
    (
        "FLOPs are those of the backbone for one user. Scoring the catalogue costs the same for every configuration and is counted apart. "
        "Computing item vectors is counted apart, too."
    ),
)

WORDS = (
    ("full attention, full history", "every item of the window is read at full cost; what all else is compared with."),
    ("served the same way", "both sides recompute the window at each request, or both start from what they keep of the user."),
    ("PerSRec, tokens", "a user's history is compressed once into so many vectors; a request reads those and the recent items."),
    ("elastic", "one trained model serves every token count and history length; a separate model knows one of each."),
    (
        "no token (the control)",
        "the best on validation of what reads no history: 0 tokens, or the recent items alone. What tokens carry lies above it.",
    ),
    ("recent only", "a model trained on the recent items alone, without tokens in its training either."),
    (
        "refresh",
        (
            "compressing the history anew. It is paid once, and then serves several requests. Where users are refreshed in batches, its "
            "time is that of a batch over their number, which is no time of one refresh alone."
        ),
    ),
    (
        "configuration, cell, servable",
        (
            "a configuration is every setting but the seed; a cell is a configuration and a seed. A servable configuration is no floor, "
            "peer, ablation or aged cache; it was measured, and its counts of FLOPs agree."
        ),
    ),
    ("64 + 8", "a window: so many items of history, and behind them so many recent ones, which every request reads."),
    ("what binds", "the bound of a budget that a configuration comes nearest to, and how much of it is to spare."),
    ("floor", "a baseline that learns nothing, such as popularity. A model must rank better than every floor."),
    ("segments", "pieces of the history, compressed one after the other; tokens stand behind each."),
    (
        "kept of its backbone's full history (retention)",
        (
            "quality as a share of full history's on the same backbone and window: what the compression loses. Not quoted where the long "
            "history is worth nothing measurable."
        ),
    ),
    (
        "kept of the best full attention",
        (
            "quality as a share of that of the one full attention that the answer or the budget names, of whichever backbone. So full "
            "attention of another backbone may keep less than 100%."
        ),
    ),
    ("recovered", "of what the long history adds over no token, the share that the tokens keep."),
    ("on the frontier", "nothing cheaper ranks as well; a share says in how many draws of users that holds."),
    ("synthetic data", "laps, rounds, titled and the like are sizes of a process with a known best answer; no people are in them."),
)


def shares_of_time(whole: Estimate, backbone: Estimate) -> list[str]:
    """The share of another configuration's time that a whole request takes, else that of its backbone; nothing where both are unknown."""
    if whole.value is not None:
        return [f"{with_interval(whole, 'percent')} of the time"]
    return [f"{with_interval(backbone, 'percent')} of the backbone's time"] if backbone.value is not None else []


def request_beside_alike(shares: Sequence[str], serving: str) -> list[str]:
    """A sentence on a request's shares of what full attention served the same way costs; none without a share."""
    return [f"A request costs {listed(shares)} of full attention served the same way, {_SERVING_IN_WORDS[serving]}."] if shares else []


def backbone_alone(whole: Estimate, backbone: Estimate) -> list[str]:
    """A sentence on the backbone's share of the time, where `shares_of_time` gives that of a whole request."""
    if whole.value is None or backbone.value is None:
        return []
    return [f"For the backbone alone, the share of the time is {with_interval(backbone, 'percent')}."]
