"""QFT: weights, biases and scales learn together, end to end, to give what the float network gives.

Source: Finkelstein et al., "QFT: Post-training quantization via fast joint finetuning of all degrees of freedom"
(2022). The forward pass is the integer network itself; rounding passes gradients straight through. What is taught are
the float network's own tensors, so that no labels are needed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mz.graph import Graph, Params, Quantization
from mz.quantize.checkpoint import Arrays, Checkpoint

if TYPE_CHECKING:
    from mz.quantize.learned.distillation import Target
    from mz.quantize.learned.variables import Tuned

_SAVE_SECONDS = 60.0
_PATIENCE = 2
"""Epochs in a row without a better held-out loss, after which there is no hope."""


@dataclass(frozen=True, slots=True)
class Finetune:
    """learning_rate: of 4-bit weights, as a share of the largest that there are. loss_layers: () is the backbone's
    features and the outputs; loss_types, loss_factors: one for each of them, () is the default.
    """

    epochs: int = 4
    dataset_size: int = 1024
    batch_size: int = 8
    learning_rate: float = 5e-4
    warmup_epochs: float = 0.25
    train_scales: bool = True
    loss_layers: tuple[str, ...] = ()
    loss_types: tuple[str, ...] = ()
    loss_factors: tuple[float, ...] = ()
    default_loss: str = "l2rel"


@dataclass(frozen=True, slots=True)
class FinetuneReport:
    """losses: held-out distillation loss of the integers to begin with and after each epoch. best: where it is least.

    images, held_out: how many were learned from and judged on.
    """

    losses: tuple[float, ...]
    best: int
    images: int
    held_out: int


def finetune(
    graph: Graph,
    params: Params,
    start: Quantization,
    images: Mapping[str, np.ndarray],
    judged: Mapping[str, np.ndarray],
    settings: Finetune,
    *,
    per_layer_scale: bool = False,
    fixed: Collection[str] = (),
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    images_done: Callable[[int], object] = lambda count: None,
) -> tuple[Quantization, FinetuneReport]:
    """The best integers found, by the held-out loss on the integer engine: those of `start` if none are better.

    images: float32 [N, *shape] by Input layer, to learn from; judged: others, held out. fixed: tensors whose scales
    stay. Needs PyTorch. With a checkpoint, a run that was killed goes on there and ends with the same integers.
    """
    from mz.quantize.learned.distillation import Target, default_layers
    from mz.quantize.learned.judge import Judge
    from mz.quantize.learned.variables import Tuned, device

    layers = settings.loss_layers or tuple(default_layers(graph))
    types = settings.loss_types or (settings.default_loss,) * len(layers)
    factors = settings.loss_factors or (1.0,) * len(layers)
    targets = [Target(*each) for each in zip(layers, types, factors, strict=True)]
    judge = Judge(graph, params, judged, targets)
    tuned = Tuned(
        graph,
        params,
        start,
        per_layer=per_layer_scale,
        fixed=fixed,
        train_scales=settings.train_scales,
        device=device(),
    )
    run = _Run(tuned, settings, seed, checkpoint or Checkpoint())
    run.train(images, targets, judge.loss, images_done)
    best = int(np.argmin(run.losses))
    sizes = (len(next(iter(feeds.values()))) for feeds in (images, judged))
    report = FinetuneReport(tuple(run.losses), best, *sizes)
    return (run.best() if best else start), report


def learning_rate(settings: Finetune, step: int, steps: int, steps_an_epoch: int) -> float:
    """Rises in a straight line over the warm-up, then falls by half a cosine to 0."""
    warm = min(round(settings.warmup_epochs * steps_an_epoch), steps - 1)
    if step < warm:
        return settings.learning_rate * (step + 1) / (warm + 1)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


class _Run:
    """A training that can be left at any step and taken up again: its whole state is in arrays."""

    def __init__(self, tuned: Tuned, settings: Finetune, seed: int, checkpoint: Checkpoint) -> None:
        import torch

        self.tuned, self.settings, self.seed, self.checkpoint = tuned, settings, seed, checkpoint
        self.step = 0
        self.losses: list[float] = []
        self._best = self._values()
        self.optimizer = torch.optim.Adam(
            [{"params": [value], "rate": tuned.rate(name)} for name, value in tuned.variables.items()]
        )
        self._restore()

    def train(
        self,
        images: Mapping[str, np.ndarray],
        targets: list[Target],
        judge: Callable[[Quantization], float],
        images_done: Callable[[int], object],
    ) -> None:
        import torch

        from mz.engines.float_ort import FloatSession
        from mz.quantize.learned.distillation import total_loss
        from mz.quantize.learned.lowering import forward

        size = len(next(iter(images.values())))
        batch = min(self.settings.batch_size, size)
        steps_an_epoch = size // batch
        steps = self.settings.epochs * steps_an_epoch
        wanted = [target.layer for target in targets]
        teacher = FloatSession(self.tuned.graph, self.tuned.params, taps=wanted)
        if not self.losses:
            self.losses.append(judge(self.tuned.quantization()))
        images_done(self.step * batch)
        saved = time.monotonic()
        while self.step < steps and not self._hopeless():
            epoch, place = divmod(self.step, steps_an_epoch)
            order = np.random.default_rng([self.seed, epoch]).permutation(size)
            chosen = np.sort(order[place * batch : (place + 1) * batch])
            feeds = {name: x[chosen] for name, x in images.items()}
            rate = learning_rate(self.settings, self.step, steps, steps_an_epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["rate"]
            taught = teacher.run(feeds)
            expected = {name: torch.from_numpy(taught[name]).to(self.tuned.device) for name in wanted}
            found = forward(self.tuned.integers(), feeds, wanted, self.tuned.device)
            loss = total_loss(self.tuned.graph, targets, expected, found)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.tuned.project()
            self.step += 1
            if self.step % steps_an_epoch == 0:
                self.losses.append(judge(self.tuned.quantization()))
                if self.losses[-1] < min(self.losses[:-1]):
                    self._best = self._values()
            if self.step % steps_an_epoch == 0 or time.monotonic() - saved > _SAVE_SECONDS:
                self.checkpoint.save(self._state())
                saved = time.monotonic()
            images_done(batch)

    def best(self) -> Quantization:
        """The integers with the least held-out loss so far."""
        self._take(self._best, self.tuned.variables)
        return self.tuned.quantization()

    def _hopeless(self) -> bool:
        """Whether the held-out loss has risen above that of an earlier epoch for some epochs now."""
        learned = self.losses[1:]
        return bool(learned) and len(learned) - 1 - int(np.argmin(learned)) >= _PATIENCE

    def _values(self) -> Arrays:
        return {name: value.detach().cpu().numpy().copy() for name, value in self.tuned.variables.items()}

    def _state(self) -> Arrays:
        arrays = {"step": np.array(self.step), "losses": np.array(self.losses)}
        arrays |= {f"value/{name}": value for name, value in self._values().items()}
        arrays |= {f"best/{name}": value for name, value in self._best.items()}
        for name, value in self.tuned.variables.items():
            state = self.optimizer.state[value]
            arrays |= {f"{key}/{name}": state[key].detach().cpu().numpy() for key in state}
        return arrays

    def _restore(self) -> None:
        import torch

        arrays = self.checkpoint.load()
        if arrays is None:
            return
        self.step, self.losses = int(arrays["step"]), arrays["losses"].tolist()
        self._best = {name: arrays[f"best/{name}"] for name in self.tuned.variables}
        self._take({name: arrays[f"value/{name}"] for name in self.tuned.variables}, self.tuned.variables)
        for name, value in self.tuned.variables.items():
            self.optimizer.state[value] = {
                key: torch.from_numpy(arrays[f"{key}/{name}"]).to("cpu" if key == "step" else value.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
            }

    @staticmethod
    def _take(values: Arrays, variables: Mapping[str, object]) -> None:
        import torch

        with torch.no_grad():
            for name, variable in variables.items():
                variable.copy_(torch.from_numpy(values[name]))  # type: ignore[attr-defined]
