"""The digits that come with scikit-learn."""

import io

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.data.sources.source import Form
from reading import read


def test_all_of_them():
    found, bunch = read("digits", "train"), load_digits()
    assert (found.source.form, found.source.files, found.source.labelled) == (Form("image"), (), True)
    assert found.source.classes == tuple("0123456789")
    assert found.labels == bunch.target.tolist()
    assert (found.ids[0], found.ids[-1], found.places[5], len(set(found.ids))) == (
        "digits-000000", "digits-001796", "digits-000005", 1797,
    )  # fmt: skip
    pixels = [np.asarray(Image.open(io.BytesIO(data))) for data in found.inputs]
    np.testing.assert_array_equal(np.stack(pixels), bunch.images * 15)
    assert found.sizes == [1024, 773]
