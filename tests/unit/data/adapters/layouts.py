"""Miniatures of published data sets: the files, names and columns of the original, with painted noise as images."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

ISIC2019_CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
APTOS_GRADES = ("No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR")
NIH_COLUMNS_2017 = (
    "Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position",
    "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]", "",
)  # fmt: skip
NIH_COLUMNS_2020 = (
    "Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Sex", "View Position",
    "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]",
)  # fmt: skip


def paint(path: Path, seed: int, *, brightness: int = 100, size_px: int = 24, channels: int = 3) -> None:
    """An image of noise around a brightness; another seed is another image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size_px, size_px, 3) if channels == 3 else (size_px, size_px)
    noise = np.random.default_rng(seed).integers(0, 80, shape)
    Image.fromarray((noise + brightness).astype(np.uint8)).save(path)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str = ",") -> None:
    """A CSV file as the publishers write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([columns, *rows])


def edit(path: Path, old: str, new: str) -> None:
    """Replace text in a table; it must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {path.name}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def _spread(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """(class, number of the image), all classes together."""
    names = [name for name, count in counts.items() for _ in range(count)]
    return [(name, number) for number, name in enumerate(names)]


def odir(root: Path, patients: Sequence[tuple[str, str]], *, table: str = "full_df.csv", size_px: int = 24) -> Path:
    """patients: (keywords of the left eye, of the right eye). Kaggle's tables with one row for each eye image."""
    columns = (
        "ID", "Patient Age", "Patient Sex", "Left-Fundus", "Right-Fundus", "Left-Diagnostic Keywords",
        "Right-Diagnostic Keywords", "N", "D", "G", "C", "A", "H", "M", "O", "filepath", "labels", "target", "filename",
    )  # fmt: skip
    folder = root / "ODIR-5K" / "ODIR-5K" / "Training Images"
    rows = []
    for number, keywords in enumerate(patients):
        files = [f"{number}_{side}.jpg" for side in ("left", "right")]
        for side, file in enumerate(files):
            paint(folder / file, 2 * number + side, brightness=20 * (len(keywords[side]) % 8), size_px=size_px)
            shared = (number, 40 + number, ("Female", "Male")[number % 2], *files, *keywords, *[0] * 8)
            rows.append(
                (*shared, f"../input/ODIR-5K/Training Images/{file}", "['N']", "[1, 0, 0, 0, 0, 0, 0, 0]", file)
            )
    write_table(root / table, columns, rows)
    return root


def isic2019(root: Path, counts: Mapping[str, int], *, images_of_lesion: int = 2, size_px: int = 24) -> Path:
    """Lesions have `images_of_lesion` images each, numbered through."""
    truth, about = [], []
    for name, number in _spread(counts):
        image = f"ISIC_{number:07d}" + ("_downsampled" if number % 3 == 2 else "")
        kind = ISIC2019_CLASSES.index(name)
        paint(root / "ISIC_2019_Training_Input" / f"{image}.jpg", number, brightness=20 * kind, size_px=size_px)
        truth.append((image, *[float(name == other) for other in ISIC2019_CLASSES]))
        lesion = f"{name}_{number // images_of_lesion:07d}"
        about.append((image, 5 * (number % 18), "anterior torso", lesion, ("female", "male")[number % 2]))
    (root / "ISIC_2019_Training_Input" / "ATTRIBUTION.txt").write_text("ISIC")
    write_table(root / "ISIC_2019_Training_GroundTruth.csv", ("image", *ISIC2019_CLASSES), truth)
    columns = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")
    write_table(root / "ISIC_2019_Training_Metadata.csv", columns, about)
    return root


def isic2020(root: Path, counts: Mapping[str, int], *, images_of_patient: int = 2, size_px: int = 24) -> Path:
    """counts: of benign and malignant. Kaggle's layout: train.csv, jpeg/train, and one image of jpeg/test."""
    rows = []
    for name, number in _spread(counts):
        image, malignant = f"ISIC_{number:07d}", int(name == "malignant")
        paint(root / "jpeg" / "train" / f"{image}.jpg", number, brightness=120 * malignant, size_px=size_px)
        about = (("male", "female")[number % 2], f"{45.0 + number}", "head/neck", ("nevus", "melanoma")[malignant])
        rows.append((image, f"IP_{number // images_of_patient:07d}", *about, name, malignant))
    paint(root / "jpeg" / "test" / "ISIC_9999999.jpg", 9999)
    columns = (
        "image_name", "patient_id", "sex", "age_approx", "anatom_site_general_challenge", "diagnosis",
        "benign_malignant", "target",
    )  # fmt: skip
    write_table(root / "train.csv", columns, rows)
    return root


def ham10000(root: Path, counts: Mapping[str, int], *, table: str = "HAM10000_metadata.csv", size_px: int = 24) -> Path:
    """Two images of each lesion, spread over the two folders."""
    rows = []
    for name, number in _spread(counts):
        image, kind = f"ISIC_{24306 + number:07d}", sorted(counts).index(name)
        folder = root / f"HAM10000_images_part_{1 + number % 2}"
        paint(folder / f"{image}.jpg", number, brightness=20 * kind, size_px=size_px)
        rows.append((f"HAM_{number // 2:07d}", image, name, "histo", "80.0", ("male", "unknown")[number % 2], "scalp"))
    columns = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
    write_table(root / table, columns, rows, delimiter="\t" if table.endswith(".tab") else ",")
    return root


def fitzpatrick17k(root: Path, counts: Mapping[str, int], *, size_px: int = 24) -> Path:
    """counts: of non-neoplastic, benign and malignant images."""
    conditions = {
        "non-neoplastic": ("psoriasis", "inflammatory"),
        "benign": ("dermatofibroma", "benign dermal"),
        "malignant": ("melanoma", "malignant melanoma"),
    }
    rows = []
    for name, number in _spread(counts):
        image = f"{number:032x}"
        paint(root / "images" / f"{image}.jpg", number, brightness=50 * sorted(conditions).index(name), size_px=size_px)
        skin_types = (number % 6 + 1 if number else -1, 2)
        url = f"https://www.dermaamin.com/site/images/clinical-pic/{number}.jpg"
        alphanum = f"httpwwwdermaamincomsiteimagesclinicalpic{number}jpg.jpg"
        rows.append((image, *skin_types, *conditions[name], name, "", url, alphanum))
    columns = (
        "md5hash", "fitzpatrick_scale", "fitzpatrick_centaur", "label", "nine_partition_label",
        "three_partition_label", "qc", "url", "url_alphanum",
    )  # fmt: skip
    write_table(root / "fitzpatrick17k.csv", columns, rows)
    return root


def nih_cxr14(
    root: Path, findings: Sequence[str], *, v2020: bool = False, num_test: int = 0, size_px: int = 24
) -> Path:
    """findings: of the images, two of each patient; the last `num_test` are the official test set."""
    rows, names = [], []
    for number, labels in enumerate(findings):
        patient, follow_up = divmod(number, 2)
        names.append(f"{patient + 1:08d}_{follow_up:03d}.png")
        folder = root / f"images_{1 + number % 2:03d}" / "images"
        brightness = 15 * (len(labels) % 10)
        paint(folder / names[-1], number, brightness=brightness, size_px=size_px, channels=1)
        age, end = ("58", ()) if v2020 else ("058Y", ("",))
        about = (follow_up, patient + 1, age, ("M", "F")[patient % 2], "PA", 2682, 2749, 0.143, 0.143, *end)
        rows.append((names[-1], labels, *about))
    name = "Data_Entry_2017_v2020.csv" if v2020 else "Data_Entry_2017.csv"
    write_table(root / name, NIH_COLUMNS_2020 if v2020 else NIH_COLUMNS_2017, rows)
    if num_test:
        (root / "train_val_list.txt").write_text("\n".join(names[:-num_test]) + "\n")
        (root / "test_list.txt").write_text("\n".join(names[-num_test:]))
    return root


def aptos(root: Path, counts: Sequence[int], *, gaussian: bool = False, table: bool = True, size_px: int = 24) -> Path:
    """counts: of the grades 0 to 4. The competition's layout, or Kaggle's gaussian-filtered copy in class folders."""
    rows = []
    for name, number in _spread(dict(zip(APTOS_GRADES, counts, strict=True))):
        image, grade = f"{number:012x}", APTOS_GRADES.index(name)
        filtered = root / "gaussian_filtered_images" / "gaussian_filtered_images" / name
        folder = filtered if gaussian else root / "train_images"
        paint(folder / f"{image}.png", number, brightness=40 * grade, size_px=size_px)
        rows.append((image, grade))
    if table:
        write_table(root / "train.csv", ("id_code", "diagnosis"), rows)
    if not gaussian:
        paint(root / "test_images" / "ffffffffffff.png", 9999)
        write_table(root / "test.csv", ("id_code",), [("ffffffffffff",)])
    return root
