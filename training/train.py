"""Train, export and verify the networks that are bundled with mz.

Every network is trained for a fixed number of epochs with a fixed seed, and only its final weights are
exported; the test set is used once, after the export, and by no decision.  See README.md for the commands.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from make_bundled_data import read_idx
from models import NETWORKS, count_macs, count_parameters

MEAN, STD = 72.94, 90.02  # of the training images' pixels, in 0..255 units
OPSET = 17


SEED = 1


@dataclass(frozen=True)
class Phase:
    """One run of the optimizer over a one-cycle learning rate; a recipe is one or more of them."""

    epochs: int
    max_lr: float
    batch: int = 128
    weight_decay: float = 2e-4
    label_smoothing: float = 0.05
    shift: int = 2  # largest random translation, in pixels
    cutout: int = 0  # side of the erased square, in pixels
    seed: int = SEED  # of the order of the images and of their augmentation


RECIPES: dict[str, tuple[Phase, ...]] = {
    # The second phase shows whole pictures again: under cutout alone, so small a network underfits them.
    "resnet8_fashion": (
        Phase(epochs=14, max_lr=0.2, weight_decay=5e-4, cutout=8),
        Phase(epochs=5, max_lr=0.05, weight_decay=5e-4, seed=SEED + 1),
    ),
    "mobilenet_v2_fashion": (Phase(epochs=12, max_lr=0.15),),
    "mobilenet_v3_fashion": (Phase(epochs=11, max_lr=0.15),),
}


def load(data: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images padded with zeros to [N, 32, 32] (uint8) and labels (int64); part is "train" or "t10k"."""
    images = np.pad(read_idx(data / f"{part}-images-idx3-ubyte.gz"), ((0, 0), (2, 2), (2, 2)))
    labels = read_idx(data / f"{part}-labels-idx1-ubyte.gz")
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def normalize(images: Tensor) -> Tensor:
    """From uint8 [N, 32, 32] to the networks' float32 [N, 1, 32, 32]."""
    return ((images.float() - MEAN) / STD).unsqueeze(1)


def augment(images: Tensor, phase: Phase, generator: torch.Generator) -> Tensor:
    """Shift, mirror and erase a square of every image, independently of the other images of the batch."""
    count, size, _ = images.shape

    def draw(high: int) -> Tensor:
        return torch.randint(high, (count, 1), generator=generator)

    pixels = torch.arange(size)
    padded = F.pad(images, [phase.shift] * 4)
    rows = pixels + draw(2 * phase.shift + 1)
    columns = torch.where(draw(2).bool(), pixels, pixels.flip(0)) + draw(2 * phase.shift + 1)
    shifted = padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    if phase.cutout:
        # Centred inside the 28x28 picture, so the square may be cut off by the border but never misses.
        half = phase.cutout // 2
        from_row, from_column = draw(28) + 2 - half, draw(28) + 2 - half
        in_rows = (pixels >= from_row) & (pixels < from_row + phase.cutout)
        in_columns = (pixels >= from_column) & (pixels < from_column + phase.cutout)
        shifted = shifted.masked_fill(in_rows[:, :, None] & in_columns[:, None, :], 0)
    return shifted


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images classified correctly, in evaluation mode."""
    model.eval()
    correct = 0
    for part, wanted in zip(images.split(500), labels.split(500), strict=True):
        part_input = normalize(part).contiguous(memory_format=torch.channels_last)
        correct += int((model(part_input).argmax(1) == wanted).sum())
    return correct / len(labels)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay only matrices: decaying biases, batch norms or 3x3 depthwise filters costs accuracy."""
    decayed, free = [], []
    for module in model.modules():
        depthwise = isinstance(module, nn.Conv2d) and module.groups > 1
        for name, parameter in module.named_parameters(recurse=False):
            plain = name == "weight" and isinstance(module, nn.Conv2d | nn.Linear) and not depthwise
            (decayed if plain else free).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def train(
    name: str, model: nn.Module, phase: Phase, checkpoint: Path, data: Path, validation: int
) -> nn.Module:
    """Train through one phase; `validation` training images are held out, to follow the progress."""
    generator = torch.Generator().manual_seed(phase.seed)
    model = model.to(memory_format=torch.channels_last)
    images, labels = load(data, "train")
    held_images, held_labels = images[len(images) - validation :], labels[len(labels) - validation :]
    images, labels = images[: len(images) - validation], labels[: len(labels) - validation]
    steps = len(images) // phase.batch
    optimizer = torch.optim.SGD(
        parameter_groups(model, phase.weight_decay), lr=phase.max_lr, momentum=0.9, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        phase.max_lr,
        phase.epochs * steps,
        pct_start=0.2,
        cycle_momentum=False,
        final_div_factor=1e3,
    )
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    for epoch in range(1, phase.epochs + 1):
        model.train()
        total = 0.0
        order = torch.randperm(len(images), generator=generator)[: steps * phase.batch]
        for chosen in order.split(phase.batch):
            batch = normalize(augment(images[chosen], phase, generator))
            batch = batch.contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(batch), labels[chosen], label_smoothing=phase.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        if not math.isfinite(total):
            raise RuntimeError(f"{name}: the loss diverged in epoch {epoch}")
        torch.save(model.state_dict(), checkpoint)
        minutes = (time.monotonic() - started) / 60
        line = f"{name} epoch {epoch}/{phase.epochs} loss {total / steps:.4f} {minutes:.1f} min"
        if validation:
            line += f" validation {accuracy(model, held_images, held_labels):.4f}"
        print(line, flush=True)
    return model


def unshare(model: onnx.ModelProto) -> None:
    """Replace the exporter's Identity nodes between equal initializers by copies of the initializer.

    The batch norms in front of a projected residual's addition get equal gradients, and so equal biases.
    """
    graph = model.graph
    initializers = {initializer.name: initializer for initializer in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Identity"]:
        if node.input[0] in initializers:
            copy = graph.initializer.add()
            copy.CopyFrom(initializers[node.input[0]])
            copy.name = node.output[0]
            graph.node.remove(node)


def export(model: nn.Module, path: Path) -> None:
    """Write the ONNX file, with batch normalization as nodes of its own and a dynamic batch size."""
    model.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # The newer exporter folds batch normalization into convolutions; this one can be told not to.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.to(memory_format=torch.contiguous_format),
            (torch.zeros(1, 1, 32, 32),),
            str(path),
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
        )
    exported = onnx.load(path)
    unshare(exported)
    onnx.save(exported, path)
    normalizations = 0
    for node in exported.graph.node:
        if node.op_type == "BatchNormalization":
            normalizations += 1
            if len(node.output) != 1 or any(a.name == "training_mode" and a.i for a in node.attribute):
                raise RuntimeError(f"{path}: {node.name} is not in inference form")
    if normalizations != sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        raise RuntimeError(f"{path}: batch normalization was folded")
    onnx.checker.check_model(exported, full_check=True)


def verify(path: Path, data: Path) -> tuple[int, int]:
    """Run the exported file on the test set: the number of correct answers, and of images."""
    images, labels = load(data, "t10k")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    correct = 0
    for part, wanted in zip(images.split(250), labels.split(250), strict=True):
        (logits,) = session.run(["logits"], {"input": normalize(part).numpy()})
        correct += int((logits.argmax(1) == wanted.numpy()).sum())
    return correct, len(labels)


def settle(model: nn.Module, data: Path) -> nn.Module:
    """Give an untrained network plausible batch norms, by showing it some training images."""
    images, _ = load(data, "train")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    model.train()
    with torch.no_grad():
        for part in images[:2560].split(128):
            model(normalize(part))
    return model


def main() -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"default: {', '.join(NETWORKS)}")
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=here.parent / "src/mz/zoo/bundled/networks")
    parser.add_argument("--checkpoints", type=Path, default=Path("/tmp/mz-checkpoints"))
    parser.add_argument("--threads", type=int, default=2, help="the results depend on it in the last digits")
    parser.add_argument("--validation", type=int, default=2000, help="hold out this many training images")
    parser.add_argument(
        "--untrained", action="store_true", help="export random weights, to try something out"
    )
    parser.add_argument("--from-phase", type=int, default=1, help="continue from the checkpoint before it")
    parser.add_argument("--to-phase", type=int, help="stop after it (default: the recipe's last)")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    for name in args.networks or NETWORKS:
        torch.manual_seed(SEED)
        model: nn.Module = NETWORKS[name]()
        if args.untrained:
            settle(model, args.data)
        else:
            if args.from_phase > 1:
                before = args.checkpoints / f"{name}.phase{args.from_phase - 1}.pt"
                model.load_state_dict(torch.load(before, weights_only=True))
            for number, phase in enumerate(RECIPES[name][: args.to_phase], 1):
                if number >= args.from_phase:
                    checkpoint = args.checkpoints / f"{name}.phase{number}.pt"
                    model = train(name, model, phase, checkpoint, args.data, args.validation)
        path = args.out / f"{name}.onnx"
        export(model, path)
        print(f"{path.name}: {path.stat().st_size} bytes, {count_parameters(model)} parameters, ", end="")
        print(f"{count_macs(model)} MACs, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
        if not args.untrained:
            correct, count = verify(path, args.data)
            print(
                f"{path.name}: {correct} of {count} test images correct ({correct / count:.2%})", flush=True
            )


if __name__ == "__main__":
    main()
