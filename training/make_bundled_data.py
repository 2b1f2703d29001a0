"""Write the data set that is bundled with mz: the Fashion-MNIST test files and a calibration sample.

The two test files are copied byte for byte.  The calibration sample is drawn from the TRAINING images
only, class-balanced and with a fixed seed, so that no test image can leak into a quantizer's ranges.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import shutil
import struct
from pathlib import Path

import numpy as np

TEST_FILES = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
CALIB_IMAGES = "calib-images-idx3-ubyte.gz"
CALIB_LABELS = "calib-labels-idx1-ubyte.gz"


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped idx file of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes())
    zeros, kind, ndim = struct.unpack(">HBB", raw[:4])
    if zeros != 0 or kind != 0x08:
        raise ValueError(f"{path}: not an idx file of unsigned bytes")
    shape = struct.unpack(f">{ndim}I", raw[4 : 4 + 4 * ndim])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write a gzipped idx file of unsigned bytes, without a time stamp or file name in the gzip header."""
    header = struct.pack(">HBB", 0, 0x08, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes(), compresslevel=9, mtime=0))


def choose(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Indices of `count` images, as equally spread over the classes as possible, in a shuffled order."""
    rng = np.random.default_rng(seed)
    classes = np.unique(labels)
    per_class, extra = divmod(count, len(classes))
    parts = []
    for position, label in enumerate(classes):
        members = np.flatnonzero(labels == label)
        parts.append(rng.choice(members, per_class + (position < extra), replace=False))
    # Shuffled, so that any prefix of the sample (a user may calibrate on 256 images) is mixed as well.
    return rng.permutation(np.concatenate(parts))


def main() -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=here.parent / "src/mz/zoo/bundled/data/fashion_mnist")
    parser.add_argument("--count", type=int, default=2048, help="number of calibration images")
    parser.add_argument("--seed", type=int, default=2048)
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    for name in TEST_FILES:
        shutil.copyfile(args.data / name, args.out / name)
    images = read_idx(args.data / "train-images-idx3-ubyte.gz")
    labels = read_idx(args.data / "train-labels-idx1-ubyte.gz")
    chosen = choose(labels, args.count, args.seed)
    write_idx(args.out / CALIB_IMAGES, images[chosen])
    write_idx(args.out / CALIB_LABELS, labels[chosen])

    for name in (*TEST_FILES, CALIB_IMAGES, CALIB_LABELS):
        digest = hashlib.sha256((args.out / name).read_bytes()).hexdigest()
        array = read_idx(args.out / name)
        print(f"{digest}  {name}  {array.shape}")


if __name__ == "__main__":
    main()
