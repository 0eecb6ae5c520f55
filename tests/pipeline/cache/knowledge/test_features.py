"""Arrays of features: their names, which are folders, and their layouts."""

from pipeline.cache.knowledge.features import FeatureArray


def test_names_and_layouts():
    maps = FeatureArray.plan("layer2", (16, 8, 8), "float16", 8192)
    assert (maps.name, maps.shape, maps.dtype, maps.layout.axes) == (
        "feature.layer2",
        (16, 8, 8),
        "float16",
        ("channel", "height", "width"),
    )
    assert maps.layout.chunk == 512  # of 2,048 bytes a row
    assert FeatureArray.plan("encoder.layer.3 | pool", (4,), "float32", 8).name == "feature.encoder.layer.3-pool"
    assert maps.to_dict() == {"shape": [16, 8, 8], "dtype": "float16", "chunk": 512}
