"""Train one variant on KolektorSDD tiles and judge it: even items to choose by, odd items once, to report.

    python benchmarks/kolektor.py NAME --data DIR --sources DIR [--odd] [--phase1 DIR] [-P name=value ...]

DIR of --data holds kolektor/ in the MVTec layout with the item in the file names (kos07_...), DIR of --sources natural
pictures.
Writes build/kolektor/NAME/{phase1,model,result.json}; prints one row: image ROCAUC, pixel ROCAUC, PROAUC, false alarms.
"""

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ndpnet import steps
from ndpnet.config import Params, load_params
from ndpnet.data.prepared import PreparedData
from ndpnet.files import hash_of, write_json
from ndpnet.inference import Inspector
from ndpnet.metrics import exact

GROUP_PATTERN = r"data.group_pattern='^(kos\d+)'"


def main() -> None:
    """Run the variant that the command line names."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    overrides = [GROUP_PATTERN, f"synthesis.sources={arguments.sources}", *arguments.overrides]
    params = load_params(profile="line", overrides=overrides)
    folder = arguments.out / arguments.name
    prepared, bank = shared_inputs(arguments.out, arguments.data, params)
    started = time.monotonic()
    phase1 = arguments.phase1 or folder / "phase1"
    if not (phase1 / "phase1.json").is_file():
        steps.train_phase1(prepared, bank, phase1, params, folder / "work")
    if not (folder / "model" / "config.json").is_file():
        steps.train_phase2(prepared, bank, phase1, folder / "model", params, folder / "work")
    result = {"overrides": arguments.overrides, "training_minutes": (time.monotonic() - started) / 60}
    result |= judge(prepared, folder / "model", with_odd=arguments.odd)
    write_json(folder / "result.json", result)
    print(arguments.name, json.dumps(result), flush=True)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/kolektor"))
    parser.add_argument("--phase1", type=Path, help="take this phase 1 instead of training one")
    parser.add_argument("--odd", action="store_true", help="judge the odd items, too")
    parser.add_argument("-P", dest="overrides", action="append", default=[], metavar="NAME=VALUE")
    return parser.parse_args()


def shared_inputs(out: Path, data: Path, params: Params) -> tuple[Path, Path]:
    """Prepared folder and bank, made once for all variants with the same settings."""
    prepared = out / f"prepared-{hash_of(params.data.model_dump(mode='json'))[:8]}"
    made_of = params.synthesis.model_dump(include=steps.BANK_PARAMETERS)
    bank = out / f"bank-{hash_of(made_of)[:8]}"
    if not prepared.is_dir():
        steps.prepare(data, "kolektor", prepared, params, allow_unpinned=True)
    if not bank.is_dir():
        steps.synthesize(bank, params)
    return prepared, bank


def judge(prepared_dir: Path, model: Path, *, with_odd: bool) -> dict[str, Any]:
    """Metrics of the even items, and of the odd ones if asked for."""
    prepared, inspector = PreparedData.load(prepared_dir), Inspector.load(model)
    records, masks = prepared.records("test"), prepared.masks()
    items = np.array([int(record.group.removeprefix("kos")) for record in records])
    labels = np.array([record.defect_type != "good" for record in records])
    result = {}
    for name, parity in (("even", 0), ("odd", 1))[: 2 if with_odd else 1]:
        rows = np.flatnonzero(items % 2 == parity)
        predictions = [inspector.predict(prepared.images("test")[row]) for row in tqdm(rows, name, disable=None)]
        maps = np.stack([prediction.anomaly_map for prediction in predictions])
        scores = np.array([prediction.score for prediction in predictions])
        pixel, pro = exact.pixel_metrics(maps, masks[rows])
        counts = exact.confusion(scores, labels[rows], inspector.threshold)
        result[name] = {"image_auroc": exact.image_auroc(scores, labels[rows]), "pixel_auroc": pixel, "pro_auc": pro}
        result[name] |= {"recall": exact.recall(counts), "false_alarm_rate": exact.false_alarm_rate(counts)}
        result[name] |= {"good": int((~labels[rows]).sum()), "defective": int(labels[rows].sum())}
    return result


if __name__ == "__main__":
    main()
