"""Folders of transformers: a net does what the library does, or is refused; nothing that its files ask for is dropped."""

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch

import foreign
from conftest import tree
from foreign import CLASSES, CPU, WORDS, adopted, captured, pictures, require_equal, sentences
from pipeline.base.errors import InputError
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.text import Texts
from pipeline.models.build import assemble, parse_model
from pipeline.models.encoding import tensor
from pipeline.models.predict import predict
from pipeline.models.transformers import assets

hf = pytest.importorskip("transformers", reason="transformers is not installed")
SOME = ("card", "where is my card ?", "the money is late", "lost money")
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "num_labels": 3}
WORDY = {"vocab_size": 5 + len(WORDS), "initializer_range": 0.5}


def spec(folder, settings=""):
    return f"transformers({str(folder)!r}{settings})"


def net_of(folder, settings="", inputs=None):
    """The net that a spec with these settings makes; of texts where no kind of images is given."""
    return assemble(parse_model(spec(folder, settings)), inputs or Texts(), 3)


def refused(message, folder, settings="", inputs=None):
    with pytest.raises(InputError, match=message):
        net_of(folder, settings, inputs)


def write(folder, name, facts):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(facts))


def changed(folder, name, **facts):
    """Change facts in a JSON file; those that are None go."""
    found = json.loads((folder / name).read_text()) | facts
    write(folder, name, {key: value for key, value in found.items() if value is not None})


def logits_of(net, texts=SOME):
    return predict(net, tensor(net, np.array(texts, object)), tile=8)


def alone(model, folder, texts=SOME):
    """The library's own logits, text by text: without padding."""
    tokenize = hf.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return np.stack([model(torch.tensor([tokenize(text)["input_ids"]])).logits[0].numpy() for text in texts])


def require_close(found, expected):
    assert found.shape == expected.shape
    assert np.ptp(expected) > 0
    assert np.abs(found - expected).max() <= 1e-5 * np.ptp(expected)


def saved(folder, model):
    """A model in a folder, with the tokenizer of WORDS if it is of texts."""
    foreign.tokenizer(folder)
    model.eval().save_pretrained(folder)
    return model


def changed_weights(folder, change):
    path = folder / "model.safetensors"
    safetensors.torch.save_file(change(safetensors.torch.load_file(path)), path, metadata={"format": "pt"})


# ---------------------------------------------------------------- weights


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


# ---------------------------------------------------------------- tokenizers


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


def test_a_teacher_keeps_the_files_of_any_tokenizer_and_no_weights(tmp_path):
    kept = {"config.json", "tokenizer.json", "spm.model", "bpe.codes", "vocab.txt", "1_Pooling/config.json"}
    for name in (*kept, "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "1_Pooling/weights.bin"):
        write(tmp_path, name, {})
    assert set(assets(str(tmp_path))) - kept == {"bare.softcache"}
    assert kept < set(assets(str(tmp_path)))


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


def test_a_model_that_sees_padding(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16, "num_labels": 3}
    saved(tmp_path, hf.FNetForSequenceClassification(hf.FNetConfig(**sizes, **WORDY)))
    refused("one that takes an attention_mask, found FNetForSequenceClassification", tmp_path)


def test_rows_that_fill_a_tile_up_are_as_long_as_the_longest_text(tmp_path):
    foreign.text_classifier(tmp_path)
    net, seen = net_of(tmp_path), []
    net.net.register_forward_pre_hook(lambda module, inputs, more: seen.append(tuple(inputs[0].shape)), with_kwargs=True)
    rows = tensor(net, np.array(["card", "lost money"], object))
    assert tuple(rows.shape) == (2, 12)
    predict(net, rows, tile=32)
    assert seen == [(32, 4)]  # two words, [CLS] and [SEP]


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


def test_positions_of_roberta_begin_after_its_padding(tmp_path):
    config = hf.RobertaConfig(**SMALL, **WORDY, max_position_embeddings=10, pad_token_id=1)
    model = saved(tmp_path, hf.RobertaForSequenceClassification(config))
    changed(tmp_path, "tokenizer_config.json", model_max_length=None)
    refused("length: expected a whole number of 3 to 8, .* found 9", tmp_path, ", length=9")
    texts = ("card", " ".join(WORDS[:6]))  # and [CLS], [SEP]: eight
    require_close(logits_of(net_of(tmp_path), texts), alone(model, tmp_path, texts))
    assert net_of(tmp_path).length == 8


# ---------------------------------------------------------------- images


def resnet(folder, size):
    torch.manual_seed(0)
    config = hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
    model = hf.ResNetForImageClassification(config).eval()
    model.save_pretrained(folder)
    facts = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": size}, "crop_pct": 0.875}
    write(folder, "preprocessor_config.json", facts)
    return model


def processed(model, folder, rows):
    """The library's own logits of pixels (n, 3, height, width), which it does not resize."""
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    pixels = processor(list(rows.permute(0, 2, 3, 1).numpy()), return_tensors="pt", do_resize=False, do_center_crop=False)
    with torch.no_grad():
        return model(**pixels).logits


def pictured(size):
    return Images("RGB", (3, size, size))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"image_processor_type": "EfficientNetImageProcessor", "include_top": True}, "found include_top: true"),
        ({"image_processor_type": "EfficientNetImageProcessor"}, "found include_top: true"),
        (
            {"image_processor_type": "EfficientNetImageProcessor", "include_top": False, "rescale_offset": True},
            "found rescale_offset: true",
        ),
        ({"image_processor_type": "MobileViTImageProcessor", "do_center_crop": False}, "found do_flip_channel_order: true"),
        (
            {"image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": False, "do_center_crop": False},
            "found another scaling",  # it has no use for `do_normalize`
        ),
        ({"image_processor_type": "ImageGPTImageProcessor"}, "found do_color_quantize: true"),
        ({"image_processor_type": "ViTImageProcessor", "image_mean": [0.5]}, "crops and scales, and does nothing else"),
        ({"image_processor_type": "Nobodys"}, "expected an image processor that transformers can load"),
    ],
)
def test_image_processors_that_do_more(tmp_path, facts, message):
    foreign.image_classifier(tmp_path)
    changed(tmp_path, "preprocessor_config.json", **facts)
    refused(message, tmp_path, inputs=pictured(32))


@pytest.mark.parametrize(
    "facts",
    [
        {"image_processor_type": "ViTImageProcessor", "image_mean": None, "image_std": None},  # so the library's own
        {"image_processor_type": "DeiTImageProcessor", "image_mean": None, "crop_size": {"height": 32, "width": 32}},
        {"image_processor_type": "EfficientNetImageProcessor", "include_top": False},
        {
            "image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": False, "do_center_crop": False,
            "do_normalize": None,
        },
        {"do_normalize": False},
        {"do_rescale": False, "image_mean": [100.0, 110.0, 120.0], "image_std": [50.0, 60.0, 70.0]},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0]},
    ],
)  # fmt: skip
def test_image_processors_that_scale(tmp_path, facts):
    model = foreign.image_classifier(tmp_path)
    changed(tmp_path, "preprocessor_config.json", **facts)
    rows = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = net_of(tmp_path, inputs=pictured(32))(rows)
    require_close(found.numpy(), processed(model, tmp_path, rows).numpy())


def test_the_size_of_images_is_that_of_the_shortest_edge(tmp_path):
    resnet(tmp_path, 24)
    assert net_of(tmp_path, inputs=pictured(24)).native == (24, 24)
    refused(r"size of images: expected 24×24, as its library says, found 32×32", tmp_path, inputs=pictured(32))
    refused("length: expected none for images, found 12", tmp_path, ", length=12", inputs=pictured(24))


# ---------------------------------------------------------------- sentence-transformers


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
