"""Folders of transformers: a net does what the library does, or is refused; nothing that its files ask for is dropped."""

import shutil

import pytest
import torch

import foreign
from folders import SMALL, WORDY, alone, hf, logits_of, net_of, processed, refused, require_close, resnet, saved, spec, write
from foreign import CLASSES, CPU, adopted, captured, pictures, require_equal, sentences


def test_models_whose_attention_has_one_kind_only(tmp_path):
    """DeBERTa and ResNet know nothing of sdpa; what is cached comes of a copy built from the configuration."""
    torch.manual_seed(0)
    config = hf.DebertaV2Config(
        **SMALL, **WORDY, max_position_embeddings=16, relative_attention=True, pos_att_type=["c2p", "p2c"]
    )
    model = saved(tmp_path / "texts/net", hf.DebertaV2ForSequenceClassification(config))
    adopted(sentences(tmp_path / "texts"), spec(tmp_path / "texts/net"))
    require_equal(tmp_path / "texts", lambda texts: alone(model, tmp_path / "texts/net", texts))
    model = resnet(tmp_path / "pictures/net", 8)
    adopted(pictures(tmp_path / "pictures", 8), spec(tmp_path / "pictures/net"))
    require_equal(tmp_path / "pictures", lambda rows: processed(model, tmp_path / "pictures/net", rows))


def sentence_encoder(folder, *modules, pooling=None):
    foreign.encoder(folder)
    names = [("Transformer", ""), *((name, f"{place}_{name}") for place, name in enumerate(modules, 1))]
    write(folder, "modules.json", [{"type": f"sentence_transformers.models.{name}", "path": path} for name, path in names])
    if pooling is not None:
        write(folder, "1_Pooling/config.json", pooling)


@pytest.mark.parametrize(
    ("modules", "pooling", "message"),
    [
        (("Pooling",), {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False}, "mean or cls alone, found max"),
        (("Pooling",), {"pooling_mode_mean_sqrt_len_tokens": True}, "mean or cls alone, found mean_sqrt_len"),
        (
            ("Pooling",),
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            "mean or cls alone, found cls, mean",
        ),
        (("Pooling",), {"pooling_mode": "lasttoken"}, "mean or cls alone, found lasttoken"),
        (("Pooling",), None, "expected a file that says how to pool, found none"),
        (("Pooling", "Dense"), {"pooling_mode_mean_tokens": True}, "found Transformer, Pooling, Dense"),
        (("Normalize", "Pooling"), {"pooling_mode_mean_tokens": True}, "found Transformer, Normalize, Pooling"),
    ],
)
def test_sentence_encoders_that_do_more(tmp_path, modules, pooling, message):
    sentence_encoder(tmp_path, *modules, pooling=pooling)
    refused(message, tmp_path, ", head='linear'")


def test_prompts_and_small_letters_of_sentence_encoders(tmp_path):
    sentence_encoder(tmp_path, "Pooling", pooling={"pooling_mode": "mean"})
    write(tmp_path, "sentence_bert_config.json", {"do_lower_case": True})
    assert net_of(tmp_path, ", head='linear'").net.encoder.pool == "mean"  # its tokenizer makes them small as well
    write(tmp_path, "config_sentence_transformers.json", {"prompts": {"query": "query: "}, "default_prompt_name": "query"})
    refused("no prompt before every text, found default_prompt_name 'query'", tmp_path, ", head='linear'")


@pytest.mark.parametrize(
    "pooling", [{"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, {"pooling_mode": "cls"}]
)
def test_a_sentence_encoder_pools_scales_and_cuts_as_its_folder_says(tmp_path, pooling):
    sentence_encoder(tmp_path, "Pooling", "Normalize", pooling=pooling)
    write(tmp_path, "sentence_bert_config.json", {"max_seq_length": 5})
    net = net_of(tmp_path, ", head='linear'")
    model, tokenize = hf.AutoModel.from_pretrained(tmp_path), hf.AutoTokenizer.from_pretrained(tmp_path)
    texts = ["card", "where is my the card"]
    with torch.no_grad():
        firsts = [
            model(**tokenize(text, truncation=True, max_length=5, return_tensors="pt")).last_hidden_state[0, 0]
            for text in texts
        ]
        expected = net.net.head(torch.stack([each / each.norm() for each in firsts])).numpy()
    require_close(logits_of(net, texts), expected)
    assert net_of(tmp_path, ", head='linear', length=16").length == 16


def test_a_teacher_with_a_new_head_keeps_how_its_encoder_pools(tmp_path):
    from pipeline.models.checkpoint import Checkpoint
    from pipeline.training.recipe import Recipe
    from pipeline.training.teach import teach

    sentence_encoder(tmp_path / "encoder", "Pooling", "Normalize", pooling={"pooling_mode": "cls"})
    recipe = Recipe.parse(optimizer="sgd(lr=0.5)", epochs=1, batch_size=11)
    teach(
        model=spec(tmp_path / "encoder", ", head='linear'"), recipe=recipe, out=tmp_path / "teachers/big", policy="none",
        seed=0, splits=sentences(tmp_path) / "transfer", work=tmp_path / "work", device=CPU,
    )  # fmt: skip
    shutil.rmtree(tmp_path / "encoder")
    teacher = Checkpoint.teacher(tmp_path / "teachers/big")
    encoder = teacher.load(teacher.nets[0], CPU).net.encoder
    assert (encoder.pool, encoder.normalised) == ("cls", True)
    assert captured(tmp_path)["test"].shape == (3, len(CLASSES))
