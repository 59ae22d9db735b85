"""A folder of results: one parquet file per run and shift; a file that exists is finished.

``cells/<run_id>/<shift>.parquet`` holds every task of one shift, ``cells/<run_id>/run.json`` what
belongs to the whole run (how the constants were tuned, seconds to merge, peak memory, parameters
stored). ``cells/<run_id>/images/<shift>.parquet`` is there where it was asked for: how sure the
method was of every single image. Files are never rewritten in place, so a killed sweep loses at
most the shift in flight and two sweeps may share one folder.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mergeshift import DamagedFileError, UserError, atomic, read_json, write_json
from results.schema import COLUMNS, FULL, check, with_later


class Store:
    """Finished measurements under ``folder``.

    Args:
        folder: the results folder; it is made when something is first written.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, run_id: str, shift_key: str) -> Path:
        """Where the measurements of one run under one shift lie, or will lie."""
        return self.folder / "cells" / run_id / f"{shift_key}.parquet"

    def has(self, run_id: str, shift_key: str) -> bool:
        """Whether this part of the run is done, and so can be skipped."""
        return self.path(run_id, shift_key).exists()

    def write(self, run_id: str, shift_key: str, rows: pd.DataFrame) -> Path:
        """Save all tasks of one shift, all or nothing.

        Raises:
            UserError: the rows break the schema, belong to another run or to several shifts, or
                the disk is full.
        """
        rows = check(rows)
        found = sorted(set(rows["run_id"]))
        if found != [run_id]:
            raise UserError(f"rows of run {found} cannot be saved as run {run_id!r}")
        if len(shifts := rows[["corruption", "severity"]].drop_duplicates()) != 1:
            raise UserError(f"one file holds one shift; got {shifts.values.tolist()}")
        path = self.path(run_id, shift_key)
        table = pa.Table.from_pandas(rows, preserve_index=False)
        with atomic(path) as temporary:
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        return path

    def read(
        self, run_ids: Iterable[str] | None = None, shift_keys: Iterable[str] | None = None
    ) -> pd.DataFrame:
        """Every measurement, or those of some runs and shifts; in the order of run and file name.

        Raises:
            UserError: there is none.
            DamagedFileError: a file is truncated or altered.
        """
        chosen = self.run_ids() if run_ids is None else list(dict.fromkeys(run_ids))
        paths = [path for run_id in chosen for path in self._files(run_id)]
        if shift_keys is not None:
            wanted = set(shift_keys)
            paths = [path for path in paths if path.stem in wanted]
        if not paths:
            raise UserError(f"no results in {self.folder}; run `python -m bench sweep` first")
        return pa.concat_tables([_load(path) for path in paths]).to_pandas()

    def run_ids(self) -> list[str]:
        """Every run that has at least one finished shift, sorted."""
        return sorted({path.parent.name for path in self.folder.glob("cells/*/*.parquet")})

    def has_metric(self, run_id: str, shift_key: str, metric: str) -> bool:
        """Whether a finished part of a run has a metric, for every task.

        Raises:
            DamagedFileError: the file is truncated or altered.
        """
        path = self.path(run_id, shift_key)
        if not path.exists():
            return False
        table = _read(path, ["task", "metric"])
        mine = pc.equal(table["metric"], metric)
        return table.filter(mine)["task"].unique() == table["task"].unique()

    def shift_keys(self, run_id: str) -> list[str]:
        """The finished shifts of one run, sorted."""
        return [path.stem for path in self._files(run_id)]

    def damaged(self) -> list[Path]:
        """Every file that cannot be read back; delete them (``--force`` does) to measure again."""
        return [
            path for run_id in self.run_ids() for path in self._files(run_id) if _bad(path, _load)
        ]

    def images_path(self, run_id: str, shift_key: str) -> Path:
        """Where it lies, or will lie, how sure a run was of each image under one shift."""
        return self.folder / "cells" / run_id / "images" / f"{shift_key}.parquet"

    def write_images(self, run_id: str, shift_key: str, images: pd.DataFrame) -> Path:
        """Save a line per image, all or nothing."""
        path = self.images_path(run_id, shift_key)
        table = pa.Table.from_pandas(images, preserve_index=False)
        with atomic(path) as temporary:
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        return path

    def read_images(self, run_ids: Iterable[str], shift_keys: Iterable[str]) -> pd.DataFrame:
        """What :meth:`write_images` saved, for every run and shift.

        Raises:
            UserError: something of it was never saved.
            DamagedFileError: a file is truncated or altered.
        """
        shifts = list(shift_keys)
        paths = [self.images_path(run, shift) for run in run_ids for shift in shifts]
        if lacking := [path for path in paths if not path.exists()]:
            raise UserError(
                f"nothing is kept of single images for {len(lacking)} of {len(paths)} cells, e.g. "
                f"{lacking[0].parents[1].name} under {lacking[0].stem}; run the sweep with "
                "--uncertainty"
            )
        return pa.concat_tables([_read(path) for path in paths]).to_pandas()

    def damaged_images(self, run_ids: Iterable[str]) -> list[Path]:
        """Files about single images of these runs that cannot be read back."""
        folders = [self.folder / "cells" / run_id / "images" for run_id in run_ids]
        return [path for each in folders for path in sorted(each.glob("[!.]*.parquet"))
                if _bad(path, _read)]  # fmt: skip

    def write_run(self, run_id: str, facts: dict[str, Any]) -> Path:
        """Save what belongs to the whole run rather than to a cell."""
        path = self.folder / "cells" / run_id / "run.json"
        write_json(path, facts)
        return path

    def run(self, run_id: str) -> dict[str, Any]:
        """What :meth:`write_run` saved.

        Raises:
            UserError: nothing was saved for this run.
            DamagedFileError: the file is not JSON.
        """
        path = self.folder / "cells" / run_id / "run.json"
        if not path.exists():
            raise UserError(f"no {path}; run `python -m bench sweep` first")
        facts: dict[str, Any] = read_json(path)
        return facts

    def _files(self, run_id: str) -> list[Path]:
        return sorted((self.folder / "cells" / run_id).glob("[!.]*.parquet"))


def _read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns)
    except (OSError, pa.ArrowException) as error:
        raise DamagedFileError(f"{path} is damaged; `--force` measures it again") from error


def _load(path: Path) -> pa.Table:
    table = _read(path)
    if set(table["run_id"].unique().to_pylist()) != {path.parent.name}:
        raise DamagedFileError(f"{path} holds rows of another run; `--force` measures it again")
    if table.column_names == list(COLUMNS):
        return table
    rows = table.to_pandas()  # it was written before some column was
    if "precision" not in rows and (facts := path.with_name("run.json")).exists():
        rows["precision"] = read_json(facts).get("run", {}).get("precision") or FULL
    whole = with_later(rows)[list(COLUMNS)]
    return pa.Table.from_pandas(whole, preserve_index=False)


def _bad(path: Path, load: Callable[[Path], pa.Table]) -> bool:
    try:
        load(path)
    except DamagedFileError:
        return True
    return False
