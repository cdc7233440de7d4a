import subprocess
import sys

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from persrec.items.tokens import PLACEHOLDER, Tokens, find_tokeniser, load_tokeniser, tokenise, train_tokeniser

TEXTS = ("", "red wool hat", "red wool scarf", "blue hat", "a very long description of a hat made of wool")
UNKNOWN = "[UNK]"
WORDS = {UNKNOWN: 0, "red": 1, "wool": 2, "hat": 3, "Item:": 4}


def word_tokeniser(folder):
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN).save_pretrained(folder)


def test_the_same_texts_give_the_same_tokens_in_every_process():
    code = (
        "from persrec.items.tokens import tokenise, train_tokeniser\n"
        f"texts = {TEXTS!r}\n"
        "print(tokenise(texts, train_tokeniser(texts, size=280)).ids.tolist())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = [tokenise(TEXTS, train_tokeniser(TEXTS, size=280)).ids.tolist() for _ in range(2)]
    assert here[0] == here[1]
    assert elsewhere == f"{here[0]}\n"


def test_a_text_ends_with_the_placeholder_and_is_padded_on_the_right():
    tokeniser = train_tokeniser(TEXTS)
    tokens = tokenise(TEXTS, tokeniser)
    assert tokens.lengths.tolist() == [len(row) + 1 for row in tokeniser.encode(TEXTS)]
    for row, length in zip(tokens.ids.tolist(), tokens.lengths.tolist(), strict=True):
        assert row[length - 1] == PLACEHOLDER
        assert PLACEHOLDER not in row[: length - 1]  # no text's token
        assert set(row[length:]) <= {0}
    assert tokens.ids.shape[1] == tokens.lengths.max()
    assert tokens.ids.max() < tokeniser.size


def test_no_text_is_out_of_the_vocabulary():
    tokeniser = train_tokeniser(["ab"])
    assert len(tokeniser.encode(["zq é 漢"])[0]) >= 6  # a byte each, at least


def test_long_texts_are_cut_before_the_placeholder_and_the_prompt_stands_in_front():
    tokeniser = train_tokeniser(TEXTS)
    whole, cut = (tokenise(TEXTS, tokeniser, prompt="Item: ", longest=longest) for longest in (64, 4))
    assert cut.lengths.max() == 4
    assert cut.ids[4].tolist() == [*whole.ids[4, :3].tolist(), PLACEHOLDER]
    first = {row[0] for row in whole.ids[:, :1].tolist()}
    assert len(first) == 1  # the prompt's


def test_there_is_room_for_a_text():
    with pytest.raises(ValueError, match="longest: 1 tokens; expected at least 2"):
        tokenise(TEXTS, train_tokeniser(TEXTS), longest=1)


def test_no_texts_are_no_rows():
    tokens = tokenise([], train_tokeniser(TEXTS))
    assert (tuple(tokens.ids.shape), tuple(tokens.lengths.shape)) == ((0, 1), (0,))


def test_a_models_folder_brings_its_own_tokeniser(tmp_path):
    word_tokeniser(tmp_path)
    tokens = tokenise(("", "red hat", "green hat"), find_tokeniser(tmp_path, TEXTS), prompt="Item: ")
    assert tokens.ids.tolist() == [[4, 0, 0, 0], [4, 1, 3, 0], [4, 0, 3, 0]]
    assert tokens.lengths.tolist() == [2, 4, 4]
    assert find_tokeniser(tmp_path, TEXTS).size == len(WORDS)


def test_a_folder_without_one_has_it_trained(tmp_path):
    assert find_tokeniser(tmp_path, TEXTS).encode(TEXTS) == train_tokeniser(TEXTS).encode(TEXTS)
    assert find_tokeniser(None, TEXTS).encode(TEXTS) == train_tokeniser(TEXTS).encode(TEXTS)


def test_a_damaged_tokeniser_is_refused_by_its_folder(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=f"{tmp_path} holds no tokeniser"):
        load_tokeniser(tmp_path)


def test_every_row_has_a_length():
    tokens = tokenise(TEXTS, train_tokeniser(TEXTS))
    with pytest.raises(ValueError, match=r"lengths: shape \[4\]"):
        Tokens(ids=tokens.ids, lengths=tokens.lengths[1:])
