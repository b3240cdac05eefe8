"""ISIC 2019: 25,331 dermoscopic images in eight classes (Tschandl 2018, Codella 2018, Combalia 2019), training part."""

from __future__ import annotations

from medsynth_ray.data.adapters._files import Tree
from medsynth_ray.data.adapters._listed import ListedImages, Row, common
from medsynth_ray.data.audit import gathered

CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
TRUTH = "ISIC_2019_Training_GroundTruth.csv"
METADATA = "ISIC_2019_Training_Metadata.csv"


class Isic2019(ListedImages):
    """The label is the column that is 1; the group is the lesion, and an image without one stands alone."""

    class Config(ListedImages.Config):
        """Where the data are, and which classes are used (MEL, NV, BCC, AK, BKL, DF, VASC, SCC)."""

    def _rows(self, tree: Tree) -> dict[str, Row]:
        truth = self._keyed(self._read(tree, tree.need(TRUTH), "image", *CLASSES[:-1]), "image")
        path = tree.need(METADATA)
        about = self._keyed(self._read(tree, path, "image", "lesion_id"), "image")
        lesions = {name: about.get(name, {}).get("lesion_id") for name in truth}
        alone = {name: "" for name, lesion in lesions.items() if not lesion}
        what = f"no lesion_id in {path}, so each stands alone: images of one lesion may be in train and test"
        self.findings += gathered("no_lesion", "warn", what, alone)
        return {
            name: Row(_label(row), lesions[name] or name, _meta(about.get(name, {}))) for name, row in truth.items()
        }


def _label(row: dict[str, str]) -> str | None:
    """The one column that is 1; None where it is not one."""
    found = [name for name in CLASSES if row.get(name, "") in ("1", "1.0")]
    return found[0] if len(found) == 1 else None


def _meta(row: dict[str, str]) -> dict[str, str]:
    return common(row, age="age_approx", sex="sex", site="anatom_site_general")
