"""The contract, executable: what every registered method keeps, and the tiny zoo it is run on.

``tests/methods/test_contract.py`` runs each check on each method; ``python -m bench check NAME``
runs them on one. A method that cannot keep one says so in ``EXEMPT``, with the reason. The zoo has
random experts, images, and a data access that remembers what it was asked.
"""

import json
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import FrozenInstanceError, fields, replace
from functools import lru_cache

import torch
from lightning import Trainer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from methods.base import METHODS, NO_PAPER, MergingMethod
from methods.common.checkpoints import Checkpoints
from methods.common.config import TUNING_BUDGET
from methods.common.data_access import Needs
from methods.common.vit import PlainOps, ViT, encode, init_weights
from methods.common.weights import Weights

VIT = ViT(image_size=32, patch_size=16, width=32, layers=2, heads=2, output_dim=16)

TASKS = {"two": 2, "three": 3, "four": 4}  # task -> classes


def small_checkpoints() -> Checkpoints:
    """Three experts at random distances from a random base, made anew: a check may spoil them."""
    random = torch.Generator().manual_seed(0)
    base = init_weights(VIT, random)
    experts = {task: (base + 0.3 * init_weights(VIT, random)).materialise() for task in TASKS}
    heads = {
        task: 10 * F.normalize(torch.randn(count, VIT.output_dim, generator=random), dim=-1)
        for task, count in TASKS.items()
    }
    curvature = {task: init_weights(VIT, random).map(Tensor.square) for task in TASKS}
    return Checkpoints(VIT, base, experts, heads, curvature=curvature)


def images() -> Tensor:
    """Eight probe images.  ``[8, 3, 32, 32]``."""
    return torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class Recorder:
    """A data access that gives probe images, and remembers what was asked of it."""

    journal = None

    def __init__(self) -> None:
        self.seen = Needs.NOTHING
        self.num_validation_passes = 0

    def unlabeled(self, task: str) -> Iterator[Tensor]:
        """See :class:`methods.common.data_access.DataAccess`."""
        self.seen |= Needs.IMAGES
        yield images()

    def test_stream(self, task: str) -> Iterator[Tensor]:
        """See :class:`methods.common.data_access.DataAccess`."""
        self.seen |= Needs.TEST_STREAM
        yield images()

    def validation(self, task: str) -> Iterator[tuple[Tensor, Tensor]]:
        """See :class:`methods.common.data_access.DataAccess`."""
        self.seen |= Needs.VAL_LABELS
        yield images(), torch.arange(8) % TASKS[task]

    def training(self, task: str) -> Iterator[tuple[Tensor, Tensor]]:
        """See :class:`methods.common.data_access.DataAccess`."""
        self.seen |= Needs.TRAIN_LABELS
        yield images(), torch.arange(8) % TASKS[task]

    def count_pass(self) -> None:
        """See :class:`methods.common.data_access.DataAccess`."""
        self.num_validation_passes += 1


def few_steps(method: MergingMethod) -> None:
    """A fit of two steps on probe images, whatever the method asks for."""
    batches = [{task: images() for task in method.heads.names} for _ in range(2)]
    trainer = Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        trainer.fit(method, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]


def build(cls: type[MergingMethod], ckpts: Checkpoints, **config: object) -> MergingMethod:
    """A method built with everything that it may ask for."""
    return create(cls, **config).build(ckpts, Recorder(), few_steps)


@lru_cache(maxsize=1)
def standard(cls: type[MergingMethod]) -> MergingMethod:
    """The method as :func:`build` makes it, once for all the checks that only look at it."""
    return build(cls, small_checkpoints())


def create(cls: type[MergingMethod], **config: object) -> MergingMethod:
    """A method, not built, at settings that do not take long."""
    return cls(cls.Config.make({**cls.quick_config, **config}))


def logits(method: MergingMethod) -> dict[str, Tensor]:
    """What a built method computes on the probe images."""
    with torch.no_grad():
        return {task: method.predict(images(), task) for task in method.heads.names}


Check = Callable[[type[MergingMethod], Checkpoints], None]

EXEMPT: dict[tuple[str, str], str] = {  # (method, check) -> reason
    ("multitask", "check_still_experts_change_nothing"): "it trains on labels, and merges nothing",
    ("tent", "check_still_experts_change_nothing"): "it adapts the norms of whatever it is given",
}


def all_checks() -> list[Check]:
    """Every ``check_*`` function of this module, in order of definition."""
    return [fn for name, fn in globals().items() if name.startswith("check_")]


def cases() -> Iterator[tuple[str, Check]]:
    """Every (method, check) pair."""
    yield from ((name, check) for name in METHODS for check in all_checks())


def built(cls: type[MergingMethod], ckpts: Checkpoints) -> dict[str, Tensor]:
    """What the method computes on the probe images, at its default or quick settings."""
    return logits(build(cls, ckpts))


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor], why: str) -> None:
    """Equal logits on every task, up to float32 round-off."""
    for task in got:
        gap = (got[task] - want[task]).abs().max().item()
        assert gap < 1e-4, f"{why}: logits of {task} differ by up to {gap:.2g}"


def of_weights(ckpts: Checkpoints, weights: Weights) -> dict[str, Tensor]:
    """What one set of weights computes on the probe images."""
    features = F.normalize(encode(images(), PlainOps(weights), VIT), dim=-1)
    return {task: features @ head.T for task, head in ckpts.heads.items()}


# -- the checks ----------------------------------------------------------------------------------


def check_says_where_it_comes_from(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """The formula in the docstring, a title, a paper and the place in it; named as its file."""
    assert "=" in (cls.__doc__ or ""), f"{cls.__name__}: the docstring's first line is the formula"
    package, _, module = cls.__module__.partition(".")
    file = module.split(".")[0]
    assert package != "methods" or f"{cls.name}_".startswith(f"{file}_"), (
        f"{cls.name} lies in {file}: its name is {file}, or begins with {file}_"
    )
    assert cls.title
    paper = cls.paper
    facts = (paper.key, paper.arxiv, paper.where, paper.year, paper.title, paper.authors)
    assert paper == NO_PAPER or all(facts), f"a fact of its paper is missing: {paper}"


def check_settings_have_defaults_and_are_frozen(
    cls: type[MergingMethod], ckpts: Checkpoints
) -> None:
    """``Config()`` works, cannot be changed, and survives being written as JSON and as text."""
    cfg = cls.Config()
    assert cls.Config.make(json.loads(json.dumps(cfg.as_dict()))) == cfg
    assert cls.Config.parse([f"{k}={v}" for k, v in cfg.as_dict().items()]) == cfg
    for field in fields(cfg):
        try:
            setattr(cfg, field.name, None)
        except FrozenInstanceError:
            continue
        raise AssertionError(f"{cls.__name__}.Config.{field.name} can be reassigned")


def check_grid_is_within_the_budget(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """At most 32 validation passes for all candidates, all different and all valid."""
    candidates = [cfg.as_dict() for cfg in cls.Config().candidates()]
    assert len(candidates) <= TUNING_BUDGET, f"{len(candidates)} candidates"
    passes = cls().num_validation_passes
    assert len(candidates) == 1 or len(candidates) * passes <= TUNING_BUDGET, (
        f"{len(candidates)} candidates of {passes} validation passes each"
    )
    assert all(candidates.count(cfg) == 1 for cfg in candidates), "a candidate comes twice"


def check_logits_have_one_column_per_class(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """``[8, C_task]``, finite."""
    for task, values in logits(standard(cls)).items():
        assert values.shape == (8, TASKS[task]), (task, values.shape)
        assert values.isfinite().all(), task


def check_leaves_checkpoints_alone(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """Building and loading change neither the base, nor an expert, nor a head."""
    before = small_checkpoints()
    method = build(cls, ckpts)
    method.load_state_dict({name: t + 1 for name, t in method.state_dict().items()})
    for name, expert in {"base": ckpts.base, **ckpts.experts}.items():
        old = before.experts.get(name, before.base)
        assert torch.equal(expert.flat(), old.flat()), f"{name} was changed"
    assert all(torch.equal(ckpts.heads[task], before.heads[task]) for task in TASKS)


def check_depends_on_its_seed_alone(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """Bit for bit the same again; the global generator is neither read nor moved."""
    torch.manual_seed(1)
    first = logits(standard(cls))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = built(cls, ckpts)
    assert torch.equal(state, torch.get_rng_state()), "draws from the global generator"
    assert all(torch.equal(first[task], second[task]) for task in TASKS)


def check_still_experts_change_nothing(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """If no expert moved, the merged model is the pretrained model."""
    still = replace(ckpts, experts=dict.fromkeys(ckpts.experts, ckpts.base))
    assert_same(built(cls, still), of_weights(ckpts, ckpts.base), "no expert moved")


def check_lone_expert_comes_out(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """One expert works; at the settings declared for that it comes out as it went in."""
    task, expert = next(iter(ckpts.experts.items()))
    alone = replace(ckpts, experts={task: expert}, heads={task: ckpts.heads[task]})
    build(cls, alone)
    if cls.identity_config is not None:
        method = build(cls, alone, **cls.identity_config)
        assert_same(logits(method), of_weights(alone, expert), "a lone expert")


def check_task_order_does_not_matter(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """Merging is a function of the set of experts."""
    back = replace(ckpts, experts=dict(reversed(list(ckpts.experts.items()))))
    assert_same(built(cls, back), logits(standard(cls)), "experts in another order")


def check_duplicates_do_what_is_declared(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """What experts that are given twice do to one merged model is what ``duplicates`` says."""
    if not cls.duplicates:
        return
    assert cls().needs == Needs.NOTHING, "declares what duplicates do, which is of weights alone"
    again = [f"{task}_again" for task in TASKS]

    def moved(*names: str) -> Tensor:
        experts = {name: ckpts.experts[name.removesuffix("_again")] for name in names}
        merged = create(cls).merge(Checkpoints(None, ckpts.base, experts, {}))
        assert isinstance(merged, Weights), "declares what duplicates do, but keeps several models"
        return (merged - ckpts.base).flat()

    names = again[:1] if cls.duplicates == "ignored" else again
    times = 2 if cls.duplicates == "added" else 1
    gap = (moved(*TASKS, *names) - times * moved(*TASKS)).abs().max().item()
    assert gap < 1e-5, f"duplicates are not {cls.duplicates}: weights differ by up to {gap:.2g}"


def check_predict_ignores_its_neighbours(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """An image gets the same logits alone, in a batch, and in a batch of several tasks.

    The last in double precision, so that accuracy, NLL and ECE are the same to 1e-6.
    """
    method = standard(cls)
    with torch.no_grad():
        alone = {t: torch.cat([method.predict(x[None], t) for x in images()]) for t in TASKS}
        assert_same(logits(method), alone, "images alone and in a batch")
        method, every = deepcopy(method).double(), images().double()
        parts = {task: torch.arange(8)[i::3].flip(0) for i, task in enumerate(TASKS)}
        mixed = method.predict_mixed(every, parts)
        for task, rows in parts.items():
            gap = (mixed[task] - method.predict(every[rows], task)).abs().max().item()
            assert gap < 1e-8, f"in a batch of several tasks logits of {task} differ by {gap:.2g}"


def check_knows_the_task_only_if_it_says_so(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """Two task names give the same features, unless ``knows_task``: then they do not."""
    method = standard(cls)
    with torch.no_grad():
        first, second, _ = (method.features(images(), task) for task in TASKS)
    same = torch.allclose(first, second, atol=1e-5)
    assert same != method.knows_task, f"knows_task is {method.knows_task}"


def check_follows_its_device(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """Every tensor it holds is a buffer or a parameter, so that ``.to`` moves it.

    Tested without a device: products refuse a tensor of another dtype, sums one of no device.
    """
    method = build(cls, ckpts).double()
    for options in ({"dtype": torch.float64}, {"device": "meta"}):
        method.to(**options)
        for task in TASKS:
            try:
                found = method.predict(images().double().to(**options), task)
            except RuntimeError as error:
                raise AssertionError(f"a tensor was left behind: {error}") from error
            assert found.dtype == torch.float64
            assert found.device == method.device


def check_state_survives(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """A state dict carries all of it: loaded into a method built from others, it predicts alike."""
    method, other = standard(cls), build(cls, ckpts)
    for tensor in [*other.buffers(), *other.parameters()]:
        tensor.data.zero_()
    other.load_state_dict(method.state_dict())
    assert_same(logits(other), logits(method), "a state dict, loaded")


def check_stores_what_it_says(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """``stores`` says it in words, ``num_stored`` counts at least one model."""
    method = standard(cls)
    assert method.stores
    assert method.num_stored >= ckpts.base.num_entries


def check_touches_only_what_it_needs(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """It sees what it declares (the build guards that) and declares nothing that it leaves."""
    method, access = create(cls), Recorder()
    try:
        method.build(ckpts, access, few_steps)
    except PermissionError as error:
        raise AssertionError(str(error)) from error
    gives = method.needs & ~(Needs.TASK_IDS | Needs.OPTIMIZER_STATE)  # these are no images
    left = gives & ~access.seen
    assert not left or method.adapts, f"declares {left}, but never looks"
    assert access.num_validation_passes == method.num_validation_passes, (
        f"declares {method.num_validation_passes} validation passes, "
        f"but tells of {access.num_validation_passes}"
    )


def check_adapts_only_on_what_it_needs(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """What a Trainer shows to it are images: it has to declare them."""
    method = cls()
    assert not method.adapts or method.needs & (Needs.IMAGES | Needs.TEST_STREAM), (
        "adapts, but declares no images"
    )


def check_need_not_learn_twice(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """What images decide is in ``learned``: built with its state, and no image, it is the same."""
    method = standard(cls)
    if method.needs == Needs.NOTHING:
        return
    assert method.learned is not None, "learns from images, but keeps nothing in `learned`"
    again = create(cls).build(ckpts, learned=method.learned.state_dict())
    assert all(torch.equal(logits(again)[task], logits(method)[task]) for task in TASKS)


def check_holds_one_tensor_of_each(cls: type[MergingMethod], ckpts: Checkpoints) -> None:
    """Merging reads the experts tensor by tensor: at most one of each is alive at a time."""
    alive: Counter[str] = Counter()

    def metered(task: str, expert: Weights) -> Weights:
        def read(name: str) -> Tensor:
            tensor = expert[name].clone()
            alive[task] += 1
            assert alive[task] == 1, f"two tensors of expert {task} at once, at {name}"
            weakref.finalize(tensor, alive.subtract, [task])
            return tensor

        return Weights.lazy({name: expert.shape(name) for name in expert}, read)

    experts = {task: metered(task, expert) for task, expert in ckpts.experts.items()}
    build(cls, replace(ckpts, experts=experts))
