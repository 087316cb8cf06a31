"""`ndpnet quick`: from pictures to a verdict in a minute, with a small model; to see that everything works."""

from pathlib import Path
from typing import TYPE_CHECKING

from ndpnet.config import load_params
from ndpnet.data.demo import DEMO_GROUP_PATTERN, make_demo_data
from ndpnet.data.preparing import prepare

if TYPE_CHECKING:
    from ndpnet.inference import Verdict

CATEGORY = "brick"
PICTURE = "test/scratch/brick_r6c5_07.png"
SMALL = (
    *("data.mode=resize", f"data.group_pattern={DEMO_GROUP_PATTERN}"),  # not what a site's surface has set
    *("data.image_size=128", "synthesis.patch_size=128", "synthesis.num_masks=256", "synthesis.num_sources=33"),
    *("model.bank_size=1024", "model.score_pixels=50", "train.num_validations=1"),
    *("train.phase1.min_steps=20", "train.phase1.epochs=0.1", "train.phase2.min_steps=60", "train.phase2.epochs=0.1"),
)


def quick(out: Path) -> tuple[Path, "Verdict"]:
    """Train a small model on the demo's brick surface under `out`, and inspect a picture with a scratch.

    -> that picture, and its verdict, which is drawn as verdict.png. Nothing is tracked or pinned.
    """
    from ndpnet.inference import Inspector
    from ndpnet.synthesis.bank import make_bank
    from ndpnet.training.run import run_phase1, run_phase2

    out, params = Path(out), load_params(profile="demo", overrides=SMALL)
    data, prepared, bank, phase1, model, work = (
        out / name for name in ("data", "prepared", "bank", "phase1", "model", "work")
    )
    make_demo_data(data)
    prepare(data, CATEGORY, prepared, params.data)
    make_bank(bank, params.synthesis, seed=params.seed)
    run_phase1(prepared, bank, phase1, params, work)
    run_phase2(prepared, bank, phase1, model, params, work)
    picture = data / CATEGORY / PICTURE
    verdict = Inspector.load(model).inspect(picture)
    verdict.save(out / "verdict.png")
    return picture, verdict
