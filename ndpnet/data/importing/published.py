"""What the publishers say about their data sets: counts to compare an import with, and the terms of use."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

NON_COMMERCIAL = "CC BY-NC-SA 4.0: not for commercial use"

# P. Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, Table 1, and the public release: 3629 pictures
# for training, 467 good and 1258 defective ones for testing. The NDP-Net paper's Table I has other test counts for
# carpet (21 good, 88 defective) and leather (32, 72): the release is what is compared with.
# category -> train good, test good, test defective, types of defects
MVTEC_AD: dict[str, tuple[int, int, int, str]] = {
    "bottle": (209, 20, 63, "broken_large broken_small contamination"),
    "cable": (
        224,
        58,
        92,
        "bent_wire cable_swap combined cut_inner_insulation cut_outer_insulation missing_cable missing_wire "
        "poke_insulation",
    ),
    "capsule": (219, 23, 109, "crack faulty_imprint poke scratch squeeze"),
    "carpet": (280, 28, 89, "color cut hole metal_contamination thread"),
    "grid": (264, 21, 57, "bent broken glue metal_contamination thread"),
    "hazelnut": (391, 40, 70, "crack cut hole print"),
    "leather": (245, 32, 92, "color cut fold glue poke"),
    "metal_nut": (220, 22, 93, "bent color flip scratch"),
    "pill": (267, 26, 141, "color combined contamination crack faulty_imprint pill_type scratch"),
    "screw": (320, 41, 119, "manipulated_front scratch_head scratch_neck thread_side thread_top"),
    "tile": (230, 33, 84, "crack glue_strip gray_stroke oil rough"),
    "toothbrush": (60, 12, 30, "defective"),
    "transistor": (213, 60, 40, "bent_lead cut_lead damaged_case misplaced"),
    "wood": (247, 19, 60, "color combined hole liquid scratch"),
    "zipper": (
        240,
        32,
        119,
        "broken_teeth combined fabric_border fabric_interior rough split_teeth squeezed_teeth",
    ),
}

# P. Mishra et al., "VT-ADL", ISIE 2021, as released: 1799 pictures for training, 451 good and 290 defective ones for
# testing (the paper speaks of 2830 pictures). Its terms are told differently by different sources, so none is given.
BTAD: dict[str, tuple[int, int, int, str]] = {
    "01": (400, 21, 49, "ko"),
    "02": (399, 30, 200, "ko"),
    "03": (1000, 400, 41, "ko"),
}


@dataclass(frozen=True)
class Published:
    """One category of a public data set; the keys of `counts` are those of `count_found`."""

    data_set: str
    counts: Mapping[str, int]
    licence: str | None


# D. Tabernik et al., "Segmentation-based deep-learning approach for surface-defect detection", J. Intell. Manuf. 2020:
# 50 items with 8 surfaces, 399 pictures, 52 with a visible defect.
KOLEKTOR_SDD = Published("KolektorSDD", {"pictures": 399, "defective": 52}, NON_COMMERCIAL)

# J. Božič, D. Tabernik, D. Skočaj, "Mixed supervision for surface-defect detection", Computers in Industry 2021:
# 3335 pictures, 246 defective and 2085 good ones for training, 110 and 894 for testing.
KOLEKTOR_SDD2 = Published(
    "KolektorSDD2",
    {"train good": 2085, "train defective": 246, "test good": 894, "test defective": 110},
    NON_COMMERCIAL,
)


def count_found(pictures: list[tuple[str, bool]]) -> dict[str, int]:
    """Count pictures given as (the source's split or "", is defective)."""
    counts = Counter(f"{split} {'defective' if is_defective else 'good'}" for split, is_defective in pictures if split)
    counts |= {"pictures": len(pictures), "defective": sum(is_defective for _, is_defective in pictures)}
    return dict(counts)


def recognise(layout: str, category: str, variant: str, defect_types: set[str]) -> Published | None:
    """Return the public data set a category is, by its layout, name and types of defects; None if it is not known."""
    if layout == "kolektor":
        return {"KolektorSDD": KOLEKTOR_SDD, "KolektorSDD2": KOLEKTOR_SDD2}.get(variant)
    if layout == "dagm":
        return _dagm(category)
    if layout != "mvtec":
        return None
    for data_set, table, licence in (("MVTec AD", MVTEC_AD, NON_COMMERCIAL), ("BTAD", BTAD, None)):
        if category in table and defect_types and defect_types <= set(table[category][3].split()):
            train_good, test_good, test_defective, _ = table[category]
            counts = {"train good": train_good, "test good": test_good, "test defective": test_defective}
            return Published(data_set, counts, licence)
    return None


def differences(published: Published, found: Mapping[str, int]) -> list[str]:
    """Return one clear line for each count that is not the published one."""
    return [
        f"{name}: {found.get(name, 0)} here, {count} published"
        for name, count in published.counts.items()
        if found.get(name, 0) != count
    ]


def _dagm(category: str) -> Published | None:
    """Classes 1-6 and 7-10 of "Weakly Supervised Learning for Industrial Optical Inspection", DAGM symposium 2007.

    By the publisher's page: 1000 good and 150 defective pictures in classes 1-6, 2000 and 300 in classes 7-10.
    """
    match = re.fullmatch(r"class[ _-]?(\d+)", category, re.IGNORECASE)
    if not match or not 1 <= int(match.group(1)) <= 10:
        return None
    factor = 1 if int(match.group(1)) <= 6 else 2
    return Published("DAGM 2007", {"pictures": 1150 * factor, "defective": 150 * factor}, None)
