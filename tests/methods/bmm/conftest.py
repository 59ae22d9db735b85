"""WUDI is an anchor among others here: a few of its steps are enough."""

import pytest

from methods.common.config import Setting
from methods.wudi import WUDI


class FewSteps(WUDI.Config):
    """As it is, but for the number of steps."""

    steps: int = Setting(20, low=0)


@pytest.fixture(autouse=True)
def few_steps_of_wudi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WUDI, "Config", FewSteps)
