"""HAM10000: 10,015 dermoscopic images of 7,470 lesions in seven classes (Tschandl 2018, arXiv 1803.10417)."""

from __future__ import annotations

from medsynth_ray.data.adapters._files import Tree
from medsynth_ray.data.adapters._listed import ListedImages, Row, common

METADATA = ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")


class Ham10000(ListedImages):
    """The label is `dx` (akiec, bcc, bkl, df, mel, nv, vasc); the group is the lesion."""

    class Config(ListedImages.Config):
        """Where the data are, and which classes are used."""

    def _rows(self, tree: Tree) -> dict[str, Row]:
        rows = self._keyed(self._read(tree, tree.need(*METADATA), "lesion_id", "image_id", "dx"), "image_id")
        return {name: Row(row["dx"] or None, row["lesion_id"] or None, _meta(row)) for name, row in rows.items()}


def _meta(row: dict[str, str]) -> dict[str, str]:
    return common(row, age="age", sex="sex", site="localization", dx_type="dx_type")
