"""What all tests share: the folder of real networks and data where there is one, and hypothesis without deadlines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("mz", deadline=None, print_blob=True)
settings.load_profile("mz")


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder that MZ_MIRROR names; tests that need it are skipped without it."""
    folder = os.environ.get("MZ_MIRROR")
    if not folder:
        pytest.skip("needs real networks and data: set MZ_MIRROR to their folder")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of the run's own where the environment names none: tests neither read nor fill the user's."""
    with pytest.MonkeyPatch.context() as patch:
        if "MZ_CACHE" not in os.environ:
            patch.setenv("MZ_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
