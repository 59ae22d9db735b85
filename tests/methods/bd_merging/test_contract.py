"""BD-Merging at settings other than its defaults keeps the contract, too."""

from functools import lru_cache

import pytest

from methods import METHODS, contract
from methods.contract import small_checkpoints
from tests.helpers.bd_merging_parts import IGNORED
from tests.helpers.learning_methods import at_settings

CHECKS = [
    getattr(contract, f"check_{name}") for name in (
        "logits_have_one_column_per_class", "leaves_checkpoints_alone", "depends_on_its_seed_alone",
        "still_experts_change_nothing", "task_order_does_not_matter", "follows_its_device",
        "predict_ignores_its_neighbours", "knows_the_task_only_if_it_says_so", "state_survives",
        "need_not_learn_twice",
    )
]  # fmt: skip
VARIANTS = {
    "gate": {"gate": True, "near": "radius", "own": True, "sharpness": "plain"},
    "linear": {"head": "linear", "evidence": "softplus", "null_route": True, "ads": False},
    "literal": {"kl_by": "constant", "balance": False, "inverse": "literal", "threshold": "batch"},
    "no router": {"router": False, "knowledge": "svd", "anchor": "shared"},
    "others": {"others": "task", "knowledge": "magnitude", "granularity": "task"},
}

pytestmark = pytest.mark.filterwarnings(IGNORED)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("variant", VARIANTS)
def test_other_settings_keep_the_contract(variant, check):
    check(built_like(variant), small_checkpoints())


@lru_cache(maxsize=1)
def built_like(variant: str) -> type:
    """One class for all checks: they share what it builds."""
    return at_settings(METHODS["bd_merging"], VARIANTS[variant] | {"head_steps": 4})
