"""Tokenizers of pretrained folders: words, padding, the most tokens of a text."""

import numpy as np
import pytest
import torch

import foreign
from folders import SMALL, WORDY, alone, changed, hf, logits_of, net_of, refused, require_close, saved, write
from foreign import WORDS
from pipeline.models.encoding import tensor
from pipeline.models.predict import predict


def test_a_tokenizer_made_of_nothing(tmp_path):
    folder = tmp_path / "bert"
    foreign.text_classifier(folder)
    foreign.tokenizer(folder, words=())
    refused("a tokenizer with its vocabulary, found one that knows no word", folder)
    (folder / "tokenizer.json").unlink()
    refused("a tokenizer with its vocabulary, found no vocab.txt", folder)
    (folder / "tokenizer_config.json").unlink()
    refused("a tokenizer with its vocabulary, found no vocab.txt", folder)
    gpt2 = hf.GPT2ForSequenceClassification(hf.GPT2Config(n_embd=16, n_layer=1, n_head=2, pad_token_id=0, **WORDY))
    gpt2.save_pretrained(tmp_path / "gpt2")
    write(tmp_path / "gpt2", "vocab.json", {letter: number for number, letter in enumerate("abc")})
    refused("expected a tokenizer, as its own save_pretrained writes it", tmp_path / "gpt2")


@pytest.mark.parametrize("own", [17, None, -1])  # the last two stand for none, so that it is the tokenizer's
def test_a_decoder_ends_a_text_where_padding_begins(tmp_path, own):
    torch.manual_seed(0)
    if own == -1:
        sizes = {"num_key_value_heads": 2, "max_position_embeddings": 16, "pad_token_id": -1}
        model = hf.LlamaForSequenceClassification(hf.LlamaConfig(**SMALL, **WORDY | {"vocab_size": 20}, **sizes))
    else:
        sizes = {"n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2, "num_labels": 3, "pad_token_id": own}
        model = hf.GPT2ForSequenceClassification(hf.GPT2Config(**WORDY | {"vocab_size": 20}, **sizes))
    saved(tmp_path, model)
    require_close(logits_of(net_of(tmp_path)), alone(model, tmp_path))


def test_a_decoder_without_a_padding_token(tmp_path):
    sizes = {"n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2, "num_labels": 3}
    saved(tmp_path, hf.GPT2ForSequenceClassification(hf.GPT2Config(**WORDY, **sizes)))
    changed(tmp_path, "tokenizer_config.json", pad_token="new")  # a word that the model has no row for
    refused("expected a padding token: pad_token_id in config.json, found none below 15", tmp_path)


def test_rows_that_fill_a_tile_up_are_as_long_as_the_longest_text(tmp_path):
    foreign.text_classifier(tmp_path)
    net, seen = net_of(tmp_path), []
    net.net.register_forward_pre_hook(lambda module, inputs, more: seen.append(tuple(inputs[0].shape)), with_kwargs=True)
    rows = tensor(net, np.array(["card", "lost money"], object))
    assert tuple(rows.shape) == (2, 12)
    predict(net, rows, tile=32)
    assert seen == [(32, 4)]  # two words, [CLS] and [SEP]


def test_positions_of_roberta_begin_after_its_padding(tmp_path):
    config = hf.RobertaConfig(**SMALL, **WORDY, max_position_embeddings=10, pad_token_id=1)
    model = saved(tmp_path, hf.RobertaForSequenceClassification(config))
    changed(tmp_path, "tokenizer_config.json", model_max_length=None)
    refused("length: expected a whole number of 3 to 8, .* found 9", tmp_path, ", length=9")
    texts = ("card", " ".join(WORDS[:6]))  # and [CLS], [SEP]: eight
    require_close(logits_of(net_of(tmp_path), texts), alone(model, tmp_path, texts))
    assert net_of(tmp_path).length == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (", length=17", "length: expected a whole number of 3 to 16, the positions that the model has, found 17"),
        (", length=2", "length: expected a whole number of 3 to 16"),
        (", length='a'", "length: expected a whole number of 3 to 16"),
        (", pool='cls'", "pool: expected none without head='linear', found cls"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, settings, message):
    foreign.text_classifier(tmp_path)
    refused(message, tmp_path, settings)
