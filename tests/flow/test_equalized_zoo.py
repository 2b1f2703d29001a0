"""Every network of the zoo that is at hand computes the same after equalization, on images that it has not seen."""

from __future__ import annotations

import pytest
from tests.optimize.networks import images

from mz import flow
from mz.errors import UserError
from mz.flow.networks import parse
from mz.flow.options import ModelRef
from mz.optimize import METHODS, absorb_bias, equalize, find_peaks
from mz.quantize import Trial

BUNDLED = ("resnet8_fashion", "mobilenet_v2_fashion", "mobilenet_v3_fashion")
NAMES = [row["name"] for row in flow.list_models("*")]


@pytest.mark.slow
@pytest.mark.parametrize("network", NAMES)
def test_the_float_output_stays(network: str) -> None:
    try:
        archive = parse(ModelRef(model=network, offline=True))
    except UserError as error:
        if network in BUNDLED:
            raise
        pytest.skip(str(error))
    graph, params = archive.graph, archive.params
    start = absorb_bias(graph, params, find_peaks(graph, params, [images(graph, 1, seed=1)]))[:3]
    trial = Trial(graph, params, images(graph, 1, seed=2))
    decibels = {}
    for method in METHODS:
        other, scaled, _ = equalize(*start, method=method, layer_scale=True)
        decibels[method] = round(trial.float_db(other, scaled), 1)
    print(network, decibels)
    assert min(decibels.values()) > 80, decibels
