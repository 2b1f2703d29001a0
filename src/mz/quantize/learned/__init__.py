"""What learns by gradients. These modules import PyTorch, the extra `qft`: import them inside functions only."""

from __future__ import annotations

import os

# OpenMP reads this once, when PyTorch loads it. Threads that wait by spinning steal the processor from those they wait
# for as soon as anything else runs beside them (measured with two processors shared by ten processes: 19 s a step
# instead of 0.3 s).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
