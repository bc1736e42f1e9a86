"""The parquet files of a folder that are of one split, by the rules of `unite.data.names`.

They lie in the folder itself or, where it holds none, in folders of it that are named for splits.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.fs as pafs

from unite.data.manifest import ShardError
from unite.data.names import FOREIGN_NAME, is_foreign, select_files, shown, splits_said
from unite.storage import Store


@dataclass(frozen=True, kw_only=True)
class ParquetFolder:
    """The parquet files of a folder."""

    sizes: dict[str, int]
    """Bytes of each file, by its path in the folder; sorted."""
    foreign: tuple[str, ...]
    """Parquet files with foreign names, which are not among them."""
    folders: tuple[str, ...]
    """Folders directly below."""

    @classmethod
    def list(cls, store: Store) -> ParquetFolder:
        """List a folder, and those of splits in it if it holds no parquet itself."""
        files, folders = _entries(store, "")
        if not files:
            files = {
                path: size
                for folder in folders
                if splits_said(folder) and not is_foreign(folder)
                for path, size in _entries(store, folder)[0].items()
            }
        own = {path: size for path, size in files.items() if not is_foreign(_name(path))}
        return cls(sizes=own, foreign=tuple(sorted(files.keys() - own)), folders=tuple(folders))

    def select(self, split: str, uri: str) -> tuple[dict[str, int], tuple[str, ...]]:
        """Sizes of the files of a split, and notes on what is not taken.

        ShardError when there is none, or when names do not say which.
        """
        if not self.sizes:
            hint = f" (it holds the folders {shown(self.folders, 8)})" if self.folders else ""
            raise ShardError(
                f"no parquet shards in {uri}{hint}; name the folder that holds the *.parquet "
                "files, or make them with jobs/prepare_data.py"
            )
        names, notes = select_files(self.sizes, split, uri)
        if self.foreign:
            notes += (f"not taken, {FOREIGN_NAME}: {shown(self.foreign)}",)
        return {name: self.sizes[name] for name in names}, notes


def holds_parquet(store: Store) -> bool:
    """Whether a folder is one of parquet files."""
    return bool(ParquetFolder.list(store).sizes)


def _entries(store: Store, folder: str) -> tuple[dict[str, int], list[str]]:
    """Parquet files directly in a folder with their sizes, and its folders; both sorted."""
    selector = pafs.FileSelector(store.path(folder), allow_not_found=True)
    infos = sorted(store.filesystem.get_file_info(selector), key=lambda info: info.base_name)
    files = {
        f"{folder}/{info.base_name}" if folder else info.base_name: info.size
        for info in infos
        if info.type == pafs.FileType.File and info.extension == "parquet"
    }
    return files, [info.base_name for info in infos if info.type == pafs.FileType.Directory]


def _name(path: str) -> str:
    return path.rpartition("/")[2]
