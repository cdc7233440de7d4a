import dataclasses

import pytest
import small_models
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from persrec.backbones import BackboneSettings, build_backbone
from persrec.backbones.llama import Llama
from persrec.compression.experts import Experts
from persrec.items import ItemSettings, TextEncoder, build_items, texts
from persrec.items.ids import ItemEmbedding
from persrec.items.texts import TextItems
from persrec.items.tokens import Tokens
from persrec.layout import SegmentLayout
from persrec.recommender import SequentialRecommender
from persrec.training import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY, WIDTH, LONGEST = 17, 12, 9
LENGTHS = (1, 4, 9, 2, 7, 7, 3, 1)
COUNT = len(LENGTHS)
CLOSE = {"rtol": 0, "atol": 1e-5}
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
    "bos_token_id": None,
    "eos_token_id": None,
}


def tokens(*, seed=0):
    random = torch.Generator().manual_seed(seed)
    return Tokens(ids=torch.randint(0, VOCABULARY, (COUNT, LONGEST), generator=random), lengths=torch.tensor(LENGTHS))


def reader(*, causal=True, kernel="segmented", catalogue=True):
    torch.manual_seed(3)
    items = TextItems(decoder=Llama(LlamaConfig(**SHAPE), length=LONGEST), vocabulary=VOCABULARY, count=COUNT, causal=causal).eval()
    with torch.no_grad():
        for weight in items.parameters():
            weight.normal_(std=weight.shape[-1] ** -0.5 if weight.dim() > 1 else 1.0)
    items.decoder.kernel = kernel
    if catalogue:
        items.set_catalogue(tokens())
    return items


def one_by_one(items, given):
    rows = [items.encode(given.ids[n : n + 1, :length], torch.tensor([length])) for n, length in enumerate(given.lengths.tolist())]
    return torch.cat(rows)


def text_model(items):
    compression = Experts(layout=SegmentLayout.from_plan([(5, 2)], window=8), width=WIDTH)
    sizes = BackboneSettings(width=WIDTH, layers=1, heads=2, length=compression.layout.length)
    return SequentialRecommender(items=items, backbone=build_backbone("hllm", sizes), compression=compression).eval()


def test_a_reader_that_starts_copying_gives_a_text_the_mean_of_its_words():
    torch.manual_seed(0)
    sizes = ItemSettings(count=4, width=16, layers=1, heads=2, key_value_heads=2, texts=("", "ab cd", "ab ef", "gh ij"))
    plain, copying = (build_items("hllm", dataclasses.replace(sizes, copying_start=copies)) for copies in (False, True))
    block = copying.decoder.layers[0].self_attn
    assert torch.equal(block.v_proj.weight, torch.eye(16))
    assert torch.equal(block.o_proj.weight, torch.eye(16))

    def nearness(items):  # of two texts that share a word, over two that share none
        with torch.no_grad():
            vectors = torch.nn.functional.normalize(items.vectors()[1:], dim=-1)
        return (vectors[0] @ vectors[1] - vectors[0] @ vectors[2]).item()

    assert nearness(copying) > 0.2
    assert abs(nearness(plain)) < nearness(copying)


# A text is read on its own


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@torch.no_grad()
def test_a_text_alone_equals_hugging_face(implementation):
    items, given = reader(), tokens()
    theirs = LlamaModel(LlamaConfig(**SHAPE, attn_implementation=implementation)).eval()
    theirs.load_state_dict({**items.decoder.state_dict(), "embed_tokens.weight": items.embed_tokens.weight})
    expected = []
    for ids, length in zip(given.ids, LENGTHS, strict=True):
        inputs = items.embed_tokens(ids[None, :length])
        inputs[0, -1] = items.item_token
        expected.append(theirs(inputs_embeds=inputs).last_hidden_state[0, -1])
    torch.testing.assert_close(items.encode(given.ids, given.lengths), torch.stack(expected), **CLOSE)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kernel", ["segmented", "naive"])
@pytest.mark.parametrize("packed_row", [None, 9, 10, 16, 64])
@torch.no_grad()
def test_texts_together_equal_texts_one_by_one(packed_row, kernel, causal):
    items, given = reader(causal=causal, kernel=kernel), tokens()
    together = items.encode(given.ids, given.lengths, packed_row=packed_row)
    torch.testing.assert_close(together, one_by_one(items, given), **CLOSE)


@pytest.mark.parametrize("packed_row", [None, 24])
@torch.no_grad()
def test_a_text_does_not_change_what_stands_beside_it(packed_row):
    items, given, others = reader(causal=False), tokens(), tokens(seed=1)
    ids = others.ids.clone()
    ids[4] = given.ids[4]
    vectors = items.encode(ids, given.lengths, packed_row=packed_row)
    torch.testing.assert_close(vectors[4], items.encode(given.ids, given.lengths)[4], **CLOSE)
    assert not torch.allclose(vectors[2], items.encode(given.ids, given.lengths)[2], atol=1e-2)


@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_padding_and_the_last_token_are_never_read(causal):
    items, given = reader(causal=causal), tokens()
    ids = given.ids.clone()
    for row, length in enumerate(LENGTHS):
        ids[row, length - 1 :] = (ids[row, length - 1 :] + 5) % VOCABULARY
    expected = items.encode(given.ids, given.lengths)
    torch.testing.assert_close(items.encode(ids, given.lengths), expected, rtol=0, atol=0)
    wider = torch.nn.functional.pad(given.ids, (0, 6), value=3)
    torch.testing.assert_close(items.encode(wider, given.lengths), expected, **CLOSE)


@torch.no_grad()
def test_batches_keep_the_order(monkeypatch):
    items, given = reader(), tokens()
    expected = items.encode(given.ids, given.lengths)
    monkeypatch.setattr(texts, "BATCH_TOKENS", 16)
    assert len(texts._batches(given.lengths.numpy())) > 3
    torch.testing.assert_close(items.encode(given.ids, given.lengths), expected, **CLOSE)
    assert items.encode(given.ids[:0], given.lengths[:0]).shape == (0, WIDTH)


# The catalogue


def test_where_vectors_are_kept_they_are_computed_once_and_again_when_a_weight_moves(monkeypatch):
    items = reader()
    calls = []
    encode = items.encode
    monkeypatch.setattr(items, "encode", lambda *given: calls.append(len(given[0])) or encode(*given))
    with torch.no_grad(), items.kept.scope():
        first = items.vectors()
        assert items.vectors() is first
        ids = torch.tensor([[3, 0], [2, 3]])
        torch.testing.assert_close(items.lookup(ids), first[ids], rtol=0, atol=0)
        assert calls == [COUNT]
        items.item_token.add_(1.0)
        assert not torch.allclose(items.vectors(), first)
        items.set_catalogue(tokens(seed=1))
        items.vectors()
    assert calls == [COUNT] * 3
    with items.kept.scope():
        assert items.vectors().requires_grad  # with gradients, nothing is kept


def test_a_lookup_reads_each_item_once_and_its_gradients_are_the_texts_own(monkeypatch):
    items, ids = reader().train(), torch.tensor([[3, 5, 3], [1, 5, 5]])
    read = []
    encode = items.encode
    monkeypatch.setattr(items, "encode", lambda *given: read.append(len(given[0])) or encode(*given))
    weights = torch.randn(2, 3, WIDTH)
    (items.lookup(ids) * weights).sum().backward()
    assert read == [3]
    looked_up = {name: weight.grad.clone() for name, weight in items.named_parameters()}
    items.zero_grad()
    (one_by_one(items, tokens())[ids] * weights).sum().backward()
    for name, weight in items.named_parameters():
        torch.testing.assert_close(looked_up[name], weight.grad, rtol=0, atol=1e-4, msg=name)


def test_inside_read_once_lookups_share_one_reading(monkeypatch):
    items = reader().train()
    expected = items.lookup(torch.tensor([5, 1, 5])).sum() + items.lookup(torch.tensor([2])).sum()
    wanted = torch.autograd.grad(expected, items.item_token)[0]
    read = []
    encode = items.encode
    monkeypatch.setattr(items, "encode", lambda *given: read.append(len(given[0])) or encode(*given))
    with items.read_once(torch.tensor([[2, 5], [1, 5]])):
        found = items.lookup(torch.tensor([5, 1, 5])).sum() + items.lookup(torch.tensor([2])).sum()
        with pytest.raises(ValueError, match="not among those given to read_once"):
            items.lookup(torch.tensor([7]))
    assert read == [3]
    torch.testing.assert_close(found, expected, **CLOSE)
    torch.testing.assert_close(torch.autograd.grad(found, items.item_token)[0], wanted, rtol=0, atol=1e-4)
    items.lookup(torch.tensor([7]))  # and outside it reads what it is asked for


def test_the_formula_of_a_reading_equals_the_counter(monkeypatch):
    monkeypatch.setattr(texts, "BATCH_TOKENS", 20)
    items, ids = reader().train(), (torch.tensor([[2, 5], [1, 5]]), torch.tensor([6, 0]))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), items.read_once(torch.cat([i.flatten() for i in ids])):
        for each in ids:
            items.lookup(each)
    assert counter.get_total_flops() == 2 * sum(items.lookup_macs(*ids).values())


@pytest.mark.parametrize("causal", [True, False])
def test_what_a_reading_needs_is_its_own_tokens(causal):
    items = reader(causal=causal)
    lengths = [LENGTHS[item] for item in (0, 1, 2, 5, 6)]
    pairs = sum(length * (length + 1) // 2 if causal else length**2 for length in lengths)
    # two layers of q and o, 12 x 12 each, k and v, 12 x 6 each, and SwiGLU's three maps of 12 x 20; two products of 12 a pair
    expected = {"attention": 2 * pairs * 2 * 12, "maps": 2 * sum(lengths) * (2 * 144 + 2 * 72 + 3 * 240)}
    assert items.lookup_macs(torch.tensor([[2, 5], [1, 5]]), torch.tensor([6, 0]), visible=True) == expected


@torch.no_grad()
def test_vectors_computed_anew_are_those_kept(monkeypatch):
    items, ids = reader(), torch.tensor([3, 0, 3])
    with items.kept.scope():
        kept = items.vectors()
        torch.testing.assert_close(items.compute(ids), kept[ids], **CLOSE)
        monkeypatch.setattr(items.decoder, "masked", lambda *given: pytest.fail("kept"))
        assert items.vectors() is kept


@pytest.mark.parametrize(("item_width", "maps"), [(None, 0), (5, 6 * 5 * 12)])
def test_the_formula_of_an_id_lookup_is_its_map(item_width, maps):
    items, ids = ItemEmbedding(count=COUNT, width=12, item_width=item_width), (torch.tensor([[2, 5], [1, 5]]), torch.tensor([6, 0]))
    with FlopCounterMode(display=False) as counter, items.read_once(ids[0]):
        for each in ids:
            items.lookup(each)
    assert items.lookup_macs(*ids) == items.lookup_macs(*ids, visible=True) == {"attention": 0, "maps": maps}
    assert counter.get_total_flops() == 2 * maps


@torch.no_grad()
def test_where_vectors_are_kept_ids_are_mapped_once():
    items = ItemEmbedding(count=COUNT, width=12, item_width=5).eval()
    with items.kept.scope():
        first = items.vectors()
        assert items.vectors() is first
        torch.testing.assert_close(first, items.embedding.weight @ items.projection.weight.T, **CLOSE)
        torch.testing.assert_close(items.lookup(torch.tensor([3, 3])), first[[3, 3]], rtol=0, atol=0)
        torch.testing.assert_close(items.compute(torch.tensor([3, 3])), first[[3, 3]], **CLOSE)
        items.projection.weight.mul_(2)
        torch.testing.assert_close(items.vectors(), 2 * first, **CLOSE)


# Under a recommender


@torch.no_grad()
def test_given_features_and_known_texts_score_alike():
    with_texts, without = text_model(reader()), text_model(reader(catalogue=False))
    without.load_state_dict(with_texts.state_dict())
    features = without.encode_items(tokens().ids, tokens().lengths)
    items = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 1], [0, 0, 0, 3, 2, 2, 1, 6]])
    expected = with_texts.score(items)
    torch.testing.assert_close(without.score(items, item_features=features), expected, **CLOSE)
    torch.testing.assert_close(with_texts.item_features(), torch.nn.functional.normalize(features, dim=-1), **CLOSE)
    cache = without.compress(items[:, :5], item_features=features)
    torch.testing.assert_close(without.score(items[:, 5:], cache=cache, item_features=features), expected, **CLOSE)


def test_a_model_without_texts_asks_for_features():
    model, items = text_model(reader(catalogue=False)), torch.tensor([[1, 2, 3, 4, 5, 6, 7, 1]])
    with pytest.raises(ValueError, match="item_features: missing"):
        model.score(items)
    with pytest.raises(ValueError, match=r"item_features: shape \[8, 5\]; expected \[items, 12\]"):
        model.score(items, item_features=torch.zeros(COUNT, 5))
    with pytest.raises(ValueError, match="items: ids from 1 to 7; expected 0 to 6"):
        model.score(items, item_features=torch.zeros(7, WIDTH))


def test_ids_are_no_texts():
    items = ItemEmbedding(count=COUNT, width=WIDTH)
    assert not isinstance(items, TextEncoder)
    with pytest.raises(ValueError, match="token_ids: given to a model of ItemEmbedding"):
        text_model(items).encode_items(tokens().ids, tokens().lengths)


@pytest.mark.parametrize(
    ("ids", "lengths", "says"),
    [
        (torch.zeros(3, dtype=torch.int64), torch.tensor([1]), r"token_ids: torch.int64 of shape \[3\]"),
        (torch.zeros(3, 4), torch.tensor([1, 1, 1]), "token_ids: torch.float32"),
        (torch.zeros(3, 4, dtype=torch.int64), torch.tensor([1, 1]), r"lengths: torch.int64 of shape \[2\]; expected int64 \[3\]"),
        (torch.zeros(3, 4, dtype=torch.int64), torch.tensor([1, 0, 4]), "lengths: from 0 to 4; expected 1 to 4"),
        (torch.zeros(3, 4, dtype=torch.int64), torch.tensor([1, 5, 4]), "lengths: from 1 to 5; expected 1 to 4"),
        (torch.zeros(3, 40, dtype=torch.int64), torch.tensor([1, 5, 40]), "lengths: from 1 to 40; expected 1 to 9"),
        (torch.full((3, 4), 17), torch.tensor([1, 1, 4]), "token_ids: from 17 to 17; expected 0 to 16"),
    ],
)
def test_tokens_that_do_not_fit_are_named(ids, lengths, says):
    with pytest.raises(ValueError, match=says):
        reader().encode(ids, lengths)


def test_rows_and_catalogues_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="packed_row: 8 tokens; expected at least 9"):
        reader().encode(tokens().ids, tokens().lengths, packed_row=8)
    with pytest.raises(ValueError, match="tokens: 7 texts; expected 8"):
        reader().set_catalogue(Tokens(ids=tokens().ids[1:], lengths=tokens().lengths[1:]))


def test_a_folder_gives_the_reader_its_weights(tmp_path):
    theirs = LlamaModel(LlamaConfig(**SHAPE))
    theirs.save_pretrained(tmp_path)
    items = TextItems.from_folder(tmp_path, count=COUNT, longest=LONGEST)
    torch.testing.assert_close(items.embed_tokens.weight, theirs.embed_tokens.weight, rtol=0, atol=0)
    torch.testing.assert_close(items.decoder.norm.weight, theirs.norm.weight, rtol=0, atol=0)
    assert items.encode(tokens().ids, tokens().lengths).shape == (COUNT, WIDTH)


def test_a_training_step_reads_its_items_in_one_go(monkeypatch):
    model = small_models.build("hllm", small_models.CASES["3 segments"]())
    reads = []
    encode = model.items.encode
    monkeypatch.setattr(model.items, "encode", lambda *given: reads.append(len(given[0])) or encode(*given))
    losses = []
    recipe = small_models.small_recipe(targets_per_step=40)
    trainer = Trainer(model=model, data=small_models.small_split(), recipe=recipe, validate=lambda: 0.0)
    monkeypatch.setattr(trainer, "step", lambda batch, step=trainer.step: losses.append(float(step(batch))) or torch.tensor(losses[-1]))
    trainer.run()
    assert len(losses) > 2
    assert len(reads) == len(losses)
    assert max(reads) <= small_models.ITEMS


# By name


def test_fresh_texts_differ_and_learn():
    settings = ItemSettings(count=4, width=8, layers=1, heads=2, texts=("", "red hat", "blue hat", "green scarf"))
    torch.manual_seed(0)
    items = build_items("hllm", settings)
    unit = torch.nn.functional.normalize(items.vectors(), dim=-1)
    assert (unit @ unit.T)[1, 3] < 0.999
    items.vectors().square().sum().backward()
    assert all(weight.grad is not None for weight in items.parameters())


def folder_of_hugging_face(folder, *, words=()):
    """A Llama's folder, with a tokeniser of ``words`` where there are some."""
    LlamaModel(LlamaConfig(**SHAPE)).save_pretrained(folder)
    if words:
        model = models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[0])
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=words[0]).save_pretrained(folder)
    return folder


def test_pretrained_texts_take_the_folders_weights_and_tokeniser(tmp_path):
    sizes = {"count": 3, "width": WIDTH, "layers": 2, "heads": 2, "texts": ("", "red hat", "hat")}
    own = folder_of_hugging_face(tmp_path / "own", words=("?", "hat", "red"))
    items = build_items("hllm", ItemSettings(**sizes, weights=own))
    theirs = LlamaModel.from_pretrained(own)
    assert items.token_ids.tolist() == [[0, 0, 0], [2, 1, 0], [1, 0, 0]]
    torch.testing.assert_close(items.embed_tokens.weight, theirs.embed_tokens.weight, rtol=0, atol=0)
    torch.testing.assert_close(items.decoder.norm.weight, theirs.norm.weight, rtol=0, atol=0)
    # without a tokeniser one is trained on the texts, and its tokens have embeddings of their own
    without = build_items("hllm", ItemSettings(**sizes, weights=folder_of_hugging_face(tmp_path / "without")))
    assert without.embed_tokens.num_embeddings > VOCABULARY
    assert without.vectors().shape == (3, WIDTH)
    with pytest.raises(ValueError, match="holds a Llama of width 12, layers 2, heads 2; expected width 12, layers 1, heads 2"):
        build_items("hllm", ItemSettings(**(sizes | {"layers": 1}), weights=own))


def test_names_that_cannot_be_built_are_refused():
    settings = ItemSettings(count=4, width=8, layers=1, heads=2)
    with pytest.raises(ValueError, match="unknown 'bert'; known: hstu, sasrec, llama, hllm"):
        build_items("bert", settings)
    with pytest.raises(ValueError, match="texts: the dataset has none"):
        build_items("hllm", settings)
