"""Add the record of seen images to a bundle that was trained before bundles had one.

    python benchmarks/record_seen.py [BUNDLE]

Without an argument, it uses the pretrained bundle. The training images follow from the bundle's
record: the data, which is loaded again and checked against its digests, the seed, and the number of
held-out images.
"""

import sys

from digitwise.bundle import SEEN_FILE, open_bundle
from digitwise.data.loading import load_dataset
from digitwise.network.splitting import split_for_training


def main() -> None:
    bundle = open_bundle(sys.argv[1] if len(sys.argv) > 1 else "pretrained")
    settings = bundle.record["settings"]
    if settings["start"] is not None or settings["teachers"]:
        raise SystemExit(f"{bundle.path}: was trained from other bundles: retrain it")
    name = None if settings["path"] else settings["dataset"]
    data = load_dataset(name, settings["path"], allow_sample=settings["allow_sample"])
    split = split_for_training(data, settings["validation"], settings["seed"])
    if split.data.digests != bundle.record["dataset"]["digests"]:
        raise SystemExit(f"{data.source}: not the data that {bundle.path} was trained on")
    file = bundle.path / SEEN_FILE
    split.seen.write(file)
    print(f"{file}: {len(split.seen.trained):,} trained on, {len(split.seen.validated):,} held out")


if __name__ == "__main__":
    main()
