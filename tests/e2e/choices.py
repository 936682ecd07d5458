"""Which SDKs a test runs with."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from _pytest.mark import ParameterSet

from e2e.sdks import SDKS, Sdk


def parameters(sdks: Iterable[Sdk]) -> list[ParameterSet]:
    """Values of the fixture `sdk`; those that are not for every day are marked `every_sdk`."""
    return [
        pytest.param(sdk, id=str(sdk), marks=[] if sdk.everyday else [pytest.mark.every_sdk])
        for sdk in sdks
    ]


def only_sdks(is_wanted: Callable[[Sdk], bool]) -> pytest.MarkDecorator:
    """The test is about what only some SDKs do."""
    wanted = parameters(sdk for sdk in SDKS if is_wanted(sdk))
    return pytest.mark.parametrize("sdk", wanted, indirect=True, scope="session")
