"""The ablations, Table VI and our own: each a few parameters, or another map from the same trained model."""

from dataclasses import dataclass

OWN = "own"  # the map of the model itself, model.anomaly_map


@dataclass(frozen=True)
class Variant:
    """A name for reports, the parameters it sets, and how its maps are made."""

    name: str
    overrides: tuple[str, ...] = ()
    scoring: str = OWN
    paper_drop: tuple[float, float] | None = None  # of image and pixel ROCAUC on wood, in points (Table VI)


FULL = Variant("NDP-Net")
PAPER_ABLATIONS = (
    Variant("without L_def_per", ("losses.defect_perception_weight=0",), paper_drop=(1.05, 2.42)),
    Variant("without RBAM", ("model.patch_sizes=[]",), paper_drop=(1.24, 0.91)),
    Variant("pixel gap for MSDSM", scoring="pixel_gap", paper_drop=(2.76, 13.29)),
    Variant("MSFR for MSDSM", scoring="msfr", paper_drop=(1.66, 5.28)),
    Variant("SSIM for MSDSM", scoring="ssim", paper_drop=(8.59, 11.19)),
)
OWN_ABLATIONS = (
    Variant("segmentation alone", scoring="segmentation"),
    Variant("distance alone", scoring="distance"),
    Variant("gap along lines for MSDSM", scoring="line_gap"),
    Variant("lines without a network", scoring="lines_alone"),
    Variant("softmax_scale 1", ("model.softmax_scale=1",)),
    Variant("softmax_scale 10", ("model.softmax_scale=10",)),
    Variant("softmax_scale 50", ("model.softmax_scale=50",)),
    Variant("first image as reference", ("model.reference=first",)),
    Variant("four references", ("model.num_references=4",)),
    Variant("K = 1", ("model.patch_sizes=[1]",)),
    Variant("K = 2", ("model.patch_sizes=[2]",)),
    Variant("K = 4", ("model.patch_sizes=[4]",)),
    Variant("no defect-free images", ("train.phase2.defect_free_share=0",)),
    Variant("half of the images defect-free", ("train.phase2.defect_free_share=0.5",)),
    Variant("beta 0", ("synthesis.beta_max=0",)),
    Variant("beta up to 0.8", ("synthesis.beta_max=0.8",)),
    Variant("no perceptual loss", ("losses.perceptual_weights=none",)),
    Variant("no averaged weights", ("train.ema_decay=0",)),
    Variant("constant learning rate", ("train.schedule=constant",)),
)
ABLATIONS = {variant.name: variant for variant in (*PAPER_ABLATIONS, *OWN_ABLATIONS)}
GROUPS = {"paper": PAPER_ABLATIONS, "own": OWN_ABLATIONS, "all": (*PAPER_ABLATIONS, *OWN_ABLATIONS)}


# they mean something behind one kind of encoder alone
OF_OWN_ENCODER = ("pixel_gap", "line_gap", "lines_alone", "msfr", "ssim")
OF_OWN_PARAMETERS = ("losses.defect_perception_weight", "model.softmax_scale", "model.patch_sizes", "model.reference=")
OF_OWN_PARAMETERS += ("model.num_references",)
OF_FROZEN_ENCODER = ("segmentation", "distance")


def check_fits(variant: Variant, encoder: str) -> None:
    """Refuse an ablation of something that a network with this encoder does not have. ValueError in one line."""
    problem = _problem(variant, encoder)
    if problem:
        raise ValueError(f"the ablation {variant.name!r} is of {problem}")


def _problem(variant: Variant, encoder: str) -> str:
    is_of_own = variant.scoring in OF_OWN_ENCODER
    is_of_own |= any(override.startswith(OF_OWN_PARAMETERS) for override in variant.overrides)
    if is_of_own and encoder != "own":
        return f"the paper's encoder, the model has {encoder} (add -P model.encoder=own, or --profile paper)"
    if variant.scoring in OF_FROZEN_ENCODER and encoder == "own":
        return "a frozen encoder (leave out model.encoder=own)"
    return ""


def choose_variants(names: tuple[str, ...], encoder: str) -> list[Variant]:
    """NDP-Net itself, then what is asked for: names, PARAMETER=VALUE, or of the groups paper, own and all what fits.

    ValueError: a strange name, or a group of which nothing fits to a model with this encoder.
    """
    chosen = {FULL.name: FULL}
    for name in names:
        variants = _variants_of(name)
        fitting = [variant for variant in variants if not _problem(variant, encoder)]
        chosen |= {variant.name: variant for variant in fitting or variants[:1]}  # the caller says why none fits
    return list(chosen.values())


def _variants_of(name: str) -> tuple[Variant, ...]:
    if name in GROUPS:
        return GROUPS[name]
    if name in ABLATIONS:
        return (ABLATIONS[name],)
    if "=" in name:
        return (Variant(name, (name,)),)
    raise ValueError(f"no ablation {name!r} (one of {', '.join([*GROUPS, *ABLATIONS])}, or PARAMETER=VALUE)")
