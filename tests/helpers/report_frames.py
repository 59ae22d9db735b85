"""Results for the HTML page: as large as it has to bear, and with images of known confidence."""

import numpy as np
import pandas as pd

from corruptions.base import PROTOCOL
from mergeshift import rng_of
from results.schema import unpack
from tests.helpers.result_frames import METHODS, make_rows

OTHERS = ("fog", "snow", "frost", "brightness", "elastic_transform", "saturate", "glass_blur",
          "defocus_blur", "zoom_blur", "shot_noise", "speckle_noise", "gaussian_blur")  # fmt: skip
WIDE_SHIFTS = (
    ("clean", 0),
    *((name, severity) for name in (*PROTOCOL, *OTHERS) for severity in range(1, 6)),
)
WIDE_TASKS = tuple(f"task_{i:02}" for i in range(20))


def wide_rows() -> pd.DataFrame:
    """15 methods on 20 tasks under 96 shifts: six, and nine more with the answers of some."""
    rows = make_rows(tasks=WIDE_TASKS, shifts=WIDE_SHIFTS, n=100)
    rows = rows[rows["metric"] != "nll"]
    plain = [name for name in METHODS if name not in ("pretrained", "individual")]
    parts = [rows]
    for i in range(9):
        part = rows[rows["method"] == plain[i % len(plain)]]
        name = f"method_{i}"
        parts.append(part.assign(method=name, title=f"Method {i}", run_id=f"pocket8-{name}-0"))
    return pd.concat(parts, ignore_index=True)


def images_for(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per image of every accuracy, right where its bits say so, sure by chance."""
    found = []
    for row in rows[rows["metric"] == "acc"].to_dict("records"):
        cell = {key: row[key] for key in ("run_id", "task", "corruption", "severity")}
        sure = rng_of("sure", *cell.values()).random(row["n"]).astype(np.float32)
        right = unpack(row["hits"], row["n"])
        found.append(pd.DataFrame({**cell, "image": np.arange(row["n"]), "right": right,
                                   "max_prob": sure, "entropy": -sure}))  # fmt: skip
    return pd.concat(found, ignore_index=True)
