"""Nets of timm; `make test-zoo` has an environment with it."""

import pytest
import safetensors.torch
import torch

from foreign import adopted, library, pictures, refused, require_equal, stirred


@pytest.mark.parametrize(
    ("name", "settings", "size", "mean", "std"),
    [
        ("vit_tiny_patch16_224", "", 224, [0.5] * 3, [0.5] * 3),
        ("vit_base_patch16_224.dino", ", size=32", 32, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("resnet18", ", size=32", 32, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("resnet18", ", size=32, mean=0.5, std=[0.2, 0.3, 0.4]", 32, [0.5] * 3, [0.2, 0.3, 0.4]),
    ],
)
def test_a_net_of_timm(tmp_path, name, settings, size, mean, std):
    timm = library("timm")
    torch.manual_seed(0)
    fixed = {"img_size": size} if "vit" in name else {}
    net = stirred(timm.create_model(name, num_classes=3, **fixed))
    safetensors.torch.save_file(net.state_dict(), tmp_path / "net.safetensors")
    adopted(pictures(tmp_path, size), f"timm('{name}'{settings})", tmp_path / "net.safetensors")
    shift, scale = (torch.tensor(each).view(-1, 1, 1) for each in (mean, std))
    require_equal(tmp_path, lambda rows: net((rows / 255 - shift) / scale))


def test_what_is_no_net_of_timm(tmp_path):
    timm = library("timm")
    pictures(tmp_path, 32)
    file = tmp_path / "net.safetensors"
    safetensors.torch.save_file(timm.create_model("resnet18", num_classes=3).state_dict(), file)
    refused(tmp_path, "'resnet81', which is not one; close to .*resnet", "timm('resnet81')", file)
    refused(tmp_path, r"size of images: expected 224×224, .* found 32×32. .* or write", "timm('resnet18')", file)
    refused(tmp_path, "missing: .* unexpected: ", "timm('mobilenetv3_small_050', size=32)", file)


def test_grey_pictures_are_shown_in_three_channels(tmp_path):
    timm = library("timm")
    torch.manual_seed(0)
    net = stirred(timm.create_model("resnet18", num_classes=3))
    safetensors.torch.save_file(net.state_dict(), tmp_path / "net.safetensors")
    adopted(pictures(tmp_path, 32, channels=1), "timm('resnet18', size=32, mean=0, std=1)", tmp_path / "net.safetensors")
    require_equal(tmp_path, lambda rows: net((rows / 255).expand(-1, 3, -1, -1)))
