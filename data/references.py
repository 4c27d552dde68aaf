"""Compute what FID asks of MNIST's training split, mean and covariance of its features, and write them: half a minute.

    python data/references.py

`metrics.reference` reads them, so that nobody has to look at 60,000 digits for a FID. To be run again whenever another
classifier is shipped; until then the stored ones are passed over.
"""

import hashlib
import json
import sys
from pathlib import Path

import safetensors.torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from course_utils import pretrained  # noqa: E402
from course_utils.classifier import look_at  # noqa: E402
from course_utils.data import load_images  # noqa: E402
from course_utils.files import write_atomically  # noqa: E402

DATASET = "mnist"


def main() -> None:
    images, _ = load_images(DATASET, "train")
    features = look_at(pretrained.load_classifier(DATASET), images)[0].double()
    content = safetensors.torch.save({"mean": features.mean(0), "covariance": features.T.cov()})
    write_atomically(HERE / pretrained.REFERENCES / f"{DATASET}.safetensors", content)
    entry = {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "images": len(images),
        "classifier_sha256": pretrained.read_manifest()[f"{DATASET}-classifier"]["sha256"],
    }
    manifest = json.dumps({DATASET: entry}, indent=2) + "\n"
    write_atomically(HERE / pretrained.REFERENCES / pretrained.MANIFEST, manifest.encode())
    print(f"{HERE / pretrained.REFERENCES / DATASET}.safetensors: {len(content):,} bytes")


if __name__ == "__main__":
    main()
