"""Pretrained folders: weights that are missing, or more than the model takes; what a teacher keeps."""

import pytest
import torch

import foreign
from conftest import tree
from folders import SMALL, WORDY, alone, changed_weights, hf, logits_of, net_of, refused, require_close, saved, spec, write
from foreign import adopted, require_equal, sentences
from pipeline.base.errors import InputError
from pipeline.models.pretrained import assets


@pytest.mark.parametrize("file", ["tf_model.h5", "pytorch_model.bin", "adapter_model.safetensors"])
def test_a_folder_without_weights_is_no_random_teacher(tmp_path, file):
    folder = tmp_path / "bert"
    foreign.text_classifier(folder)
    (folder / "model.safetensors").rename(folder / file)
    if file.startswith("adapter"):
        write(folder, "adapter_config.json", {})
    sentences(tmp_path)
    before = tree(tmp_path)
    found = {"t": "none", "p": "a pickle, pytorch_model.bin", "a": "an adapter"}[file[0]]
    message = f"expected weights as safetensors, found {found}"
    with pytest.raises(InputError, match=message):
        adopted(tmp_path, spec(folder))
    assert tree(tmp_path) == before
    refused(message, folder)
    refused(message, folder, ", head='linear'")


def test_the_copy_that_a_teacher_keeps_is_no_teacher(tmp_path):
    foreign.text_classifier(tmp_path / "bert")
    adopted(sentences(tmp_path), spec(tmp_path / "bert"))
    with pytest.raises(InputError, match="expected weights as safetensors, found none"):
        adopted(tmp_path, spec(tmp_path / "teachers/big/assets"), name="second")


def test_weights_that_the_model_has_no_place_for(tmp_path):
    foreign.text_classifier(tmp_path / "bert")
    extra = {f"bert.encoder.layer.0.attention.self.{name}.lora_A.weight": torch.ones(1) for name in "abcdef"}
    changed_weights(tmp_path / "bert", lambda held: held | extra)
    message = r"found others: bert.*self.a.lora_A.weight, .*self.e.lora_A.weight and 1 more"
    refused(message, tmp_path / "bert")
    refused(message, tmp_path / "bert", ", head='linear'")


def test_weights_of_an_old_head_or_of_a_pooler_that_nothing_reads(tmp_path):
    model = foreign.text_classifier(tmp_path / "bert")
    net = net_of(tmp_path / "bert", ", head='linear', pool='cls'")
    found = net.net.encoder(torch.tensor([[2, 5, 3]]), attention_mask=torch.ones(1, 3))
    require_close(found.detach().numpy(), model.bert(torch.tensor([[2, 5, 3]])).last_hidden_state[:, 0].detach().numpy())
    config = hf.RobertaConfig(**SMALL, **WORDY, max_position_embeddings=16, pad_token_id=1)
    model = saved(tmp_path / "roberta", hf.RobertaForSequenceClassification(config))
    changed_weights(tmp_path / "roberta", lambda held: held | {"roberta.pooler.dense.weight": torch.ones(16, 16)})
    require_close(logits_of(net_of(tmp_path / "roberta")), alone(model, tmp_path / "roberta"))


def test_weights_in_several_files(tmp_path):
    model = foreign.text_classifier(tmp_path / "bert")
    (tmp_path / "bert/model.safetensors").unlink()
    model.save_pretrained(tmp_path / "bert", max_shard_size="5KB")
    assert len(list((tmp_path / "bert").glob("*.safetensors"))) > 1
    adopted(sentences(tmp_path), spec(tmp_path / "bert"))
    require_equal(tmp_path, lambda texts: alone(model, tmp_path / "bert", texts))


def test_a_teacher_keeps_the_files_of_any_tokenizer_and_no_weights(tmp_path):
    kept = {"config.json", "tokenizer.json", "spm.model", "bpe.codes", "vocab.txt", "1_Pooling/config.json"}
    for name in (*kept, "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "1_Pooling/weights.bin"):
        write(tmp_path, name, {})
    assert set(assets(str(tmp_path))) - kept == {"bare.softcache"}
    assert kept < set(assets(str(tmp_path)))


def test_a_model_that_sees_padding(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16, "num_labels": 3}
    saved(tmp_path, hf.FNetForSequenceClassification(hf.FNetConfig(**sizes, **WORDY)))
    refused("one that takes an attention_mask, found FNetForSequenceClassification", tmp_path)
