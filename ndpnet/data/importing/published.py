"""The terms of public data sets, by what their folders are called: a model that is trained on them carries them on."""

NON_COMMERCIAL = "CC BY-NC-SA 4.0: not for commercial use"

# P. Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, Table 1: the types of defects
MVTEC_AD = {
    "bottle": "broken_large broken_small contamination",
    "cable": "bent_wire cable_swap combined cut_inner_insulation cut_outer_insulation missing_cable missing_wire "
    "poke_insulation",
    "capsule": "crack faulty_imprint poke scratch squeeze",
    "carpet": "color cut hole metal_contamination thread",
    "grid": "bent broken glue metal_contamination thread",
    "hazelnut": "crack cut hole print",
    "leather": "color cut fold glue poke",
    "metal_nut": "bent color flip scratch",
    "pill": "color combined contamination crack faulty_imprint pill_type scratch",
    "screw": "manipulated_front scratch_head scratch_neck thread_side thread_top",
    "tile": "crack glue_strip gray_stroke oil rough",
    "toothbrush": "defective",
    "transistor": "bent_lead cut_lead damaged_case misplaced",
    "wood": "color combined hole liquid scratch",
    "zipper": "broken_teeth combined fabric_border fabric_interior rough split_teeth squeezed_teeth",
}


def licence_of(layout: str, category: str, defect_types: set[str]) -> str | None:
    """The terms that a category's publisher names, by its layout, name and types of defects; None: not known."""
    is_mvtec = layout == "mvtec" and bool(defect_types) and defect_types <= set(MVTEC_AD.get(category, "").split())
    return NON_COMMERCIAL if layout == "kolektor" or is_mvtec else None
