"""Image processors of pretrained folders: a net does what they do, or is refused."""

import pytest
import torch

import foreign
from folders import changed, net_of, pictured, processed, refused, require_close, resnet


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
