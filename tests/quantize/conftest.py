"""PyTorch must load as it does in `mz`, whose package says how OpenMP is to wait, whoever imports it first."""

import mz.quantize.learned  # noqa: F401
