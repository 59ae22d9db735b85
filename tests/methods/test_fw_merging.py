"""FW-Merging: the oracle against NumPy, Frank and Wolfe's bound, and what the result is made of."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mergeshift import UserError
from methods import METHODS, Checkpoints, Needs
from methods.common.config import TUNING_BUDGET
from methods.common.vit import PlainOps, encode
from methods.common.weights import Weights
from methods.contract import TASKS, VIT, Recorder, build, images, small_checkpoints
from methods.fw_merging import FWMerging, FWMergingSoft, product


def fw(**config: object) -> FWMerging:
    return FWMerging(FWMerging.Config.make(config))


def flat(model: dict[str, torch.Tensor]) -> np.ndarray:
    return np.concatenate([tensor.double().numpy().ravel() for tensor in model.values()])


# -- the gradient and the oracle -----------------------------------------------------------------


@pytest.mark.parametrize("loss", ["entropy", "cross_entropy"])
def test_the_gradient_is_that_of_the_mean_loss(loss):
    ckpts = small_checkpoints()
    method = fw(loss=loss, iterations=0).build(ckpts, Recorder())
    data = {task: next(method.shown(task, Recorder())) for task in method.tasks}
    model = {name: tensor.double() for name, tensor in ckpts.base.items()}
    method.double()
    found = method.gradient(model, {t: (x.double(), y) for t, (x, y) in data.items()})

    def value(moved: dict[str, torch.Tensor]) -> float:
        terms = []
        for task, count in TASKS.items():
            x = F.normalize(encode(images().double(), PlainOps(moved), VIT), dim=-1)
            logs = (x @ ckpts.heads[task].double().T).log_softmax(-1)
            chosen = logs[torch.arange(8), torch.arange(8) % count]
            terms.append(-(logs.exp() * logs).sum(-1) if loss == "entropy" else -chosen)
        return torch.stack(terms).mean().item()

    name = "transformer.resblocks.0.mlp.c_proj.weight"
    for place in ((0, 0), (5, 17)):
        up, down = ({**model, name: model[name].clone()} for _ in "ud")
        up[name][place] += 1e-5
        down[name][place] -= 1e-5
        slope = (value(up) - value(down)) / 2e-5
        assert found[name][place].item() == pytest.approx(slope, rel=1e-4, abs=1e-8)


def trained() -> Checkpoints:
    """Experts no tensors of which are parallel, as they are after training."""
    ckpts, random = small_checkpoints(), torch.Generator().manual_seed(5)

    def vary(expert: Weights) -> Weights:
        noise = {k: 0.1 * torch.randn(expert.shape(k), generator=random) for k in expert}
        return (expert + Weights(noise)).materialise()

    return replace(ckpts, experts={task: vary(expert) for task, expert in ckpts.experts.items()})


@pytest.mark.parametrize("granularity", ["task", "layer"])
@pytest.mark.parametrize("oracle", ["cosine", "inner"])
def test_one_step_equals_numpy(oracle, granularity):
    ckpts = trained()
    cfg = {"oracle": oracle, "granularity": granularity, "start": "ta", "iterations": 1,
           "step_size": 0.5, "scaling": 0.4}  # fmt: skip
    method = fw(**cfg).build(ckpts, Recorder())
    start = {k: ckpts.base[k] + 0.3 * sum(e[k] - ckpts.base[k] for e in ckpts.experts.values())
             for k in ckpts.base}  # fmt: skip
    data = {task: (images(), None) for task in method.tasks}
    slope = {k: g.double().numpy() for k, g in method.gradient(start, data).items()}
    points = [start, *(dict(ckpts.experts[task]) for task in sorted(TASKS))]
    table = np.zeros((len(start), len(points)))
    for row, (name, g) in enumerate(slope.items()):
        for column, point in enumerate(points):
            s = point[name].double().numpy()
            sizes = np.linalg.norm(g) * np.linalg.norm(s) if oracle == "cosine" else 1.0
            table[row, column] = (g * s).sum() / sizes if sizes else 0.0
    choice = table.argmin(1)
    if granularity == "task":
        choice = np.full(len(start), table.sum(0).argmin())
    for name, to in zip(start, choice, strict=True):
        want = start[name] + 0.5 * 0.4 * (points[to][name] - start[name])
        torch.testing.assert_close(method.models["all"]()[name], want, atol=1e-5, rtol=0)


def test_a_product_with_nothing_is_nothing():
    weight = torch.tensor([3.0, 4.0])
    assert product(torch.zeros(2), weight, cosine=True) == 0
    assert product(weight, 0 * weight, cosine=True) == 0
    assert product(weight, weight, cosine=False) == 25


# -- Frank and Wolfe's algorithm -----------------------------------------------------------------


class Quadratic(FWMerging):
    """theta <- theta + gamma (s - theta) on ||theta - target||^2, in place of a loss on images."""

    target: Weights

    def gradient(self, model, data):
        return {name: 2 * (tensor - self.target[name]) for name, tensor in model.items()}


def walk(target: Weights, iterations: int, start: str = "average") -> float:
    """||theta - target||^2 after some full steps."""
    ckpts = small_checkpoints()
    full = {"oracle": "inner", "step_size": 1.0, "scaling": 1.0}
    method = Quadratic(FWMerging.Config.make({**full, "start": start, "iterations": iterations}))
    method.target = target
    method.build(ckpts, Recorder())
    gap = flat(method.models["all"]()) - flat(dict(target))
    return float(gap @ gap)


@pytest.mark.parametrize("k", [1, 5, 40])
def test_the_gap_shrinks_as_frank_and_wolfe_say(k):
    ckpts = small_checkpoints()
    experts = list(ckpts.experts.values())
    target = 0.5 * experts[0] + 0.3 * experts[1] + 0.2 * experts[2]
    corners = [flat(dict(expert)) for expert in experts]
    diameter = max(np.sum((a - b) ** 2) for a in corners for b in corners)
    assert walk(target, k) <= 2 * (2 * diameter) / (k + 2)


def test_a_target_that_is_an_expert_is_reached_at_once():
    ckpts = small_checkpoints()
    assert walk(ckpts.experts["three"], 1) < 1e-6


# -- what it is shown ----------------------------------------------------------------------------


def test_every_iteration_goes_on_in_the_stream_of_images():
    ckpts, shown = small_checkpoints(), []

    class Watched(FWMerging):
        def gradient(self, model, data):
            shown.append({task: x for task, (x, _) in data.items()})
            return super().gradient(model, data)

    Watched(FWMerging.Config(images=3, iterations=4)).build(ckpts, Recorder())
    whole = torch.cat([images(), images()])  # eight of them, again and again
    for k, found in enumerate(shown):
        assert list(found) == sorted(TASKS)
        assert all(torch.equal(x, whole[3 * k : 3 * k + 3]) for x in found.values())


def test_the_search_by_validation_labels_is_within_the_budget():
    cfg = FWMerging.Config(loss="cross_entropy")
    passes = [FWMerging(one).num_validation_passes for one in cfg.candidates()]
    assert len(passes) > 1
    assert sum(passes) <= TUNING_BUDGET


def test_a_task_without_images_is_one_line():
    class Without(Recorder):
        def unlabeled(self, task: str):
            yield from () if task == "two" else super().unlabeled(task)

    with pytest.raises(UserError, match="fw_merging learns from images of every task; two has"):
        fw(iterations=1).build(small_checkpoints(), Without())


def test_names_in_another_order_are_the_same_tensors():
    ckpts = trained()
    turned = {
        task: Weights(dict(reversed(list(expert.items()))))
        for task, expert in ckpts.experts.items()
    }
    cfg = {"granularity": "layer", "start": "average", "iterations": 3, "step_size": 1.0}
    models = [
        fw(**cfg).build(given, Recorder()).models["all"]()
        for given in (ckpts, replace(ckpts, experts=turned))
    ]
    for name, tensor in models[0].items():
        torch.testing.assert_close(models[1][name], tensor, atol=1e-6, rtol=0)


# -- what it is made of --------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["task", "layer"])
def test_it_is_an_affine_combination_of_the_start_and_the_experts(granularity):
    ckpts = small_checkpoints()
    method = fw(granularity=granularity, iterations=4, step_size=1.0).build(ckpts, Recorder())
    table = method.learned()["coefficients"]
    torch.testing.assert_close(table.sum(1), torch.ones(len(ckpts.base)))
    assert table.min() >= 0
    if granularity == "task":
        assert (table == table[0]).all()
        assert sum(method.coefficients["all"].values()) == pytest.approx(1, abs=1e-5)
    assert len(method.report["chosen"]) == 4


@pytest.mark.parametrize("start", ["pretrained", "average", "ta"])
def test_without_a_step_it_is_where_it_starts(start):
    ckpts = small_checkpoints()
    method = fw(start=start, iterations=0).build(ckpts, Recorder())
    cls = METHODS[{"ta": "task_arithmetic"}.get(start, start)]
    want = cls().merge(ckpts)
    torch.testing.assert_close(Weights(method.models["all"]()).flat(), want.flat())


def test_an_expert_that_is_there_twice_changes_nothing():
    ckpts = small_checkpoints()
    twice = replace(
        ckpts,
        experts={**ckpts.experts, "twin": ckpts.experts["two"]},
        heads={**ckpts.heads, "twin": ckpts.heads["two"]},
    )
    target = ckpts.experts["three"]
    cfg = FWMerging.Config(oracle="inner", start="pretrained", iterations=3, step_size=1.0)
    models = []
    for given in (ckpts, twice):
        method = Quadratic(cfg)
        method.target = target
        models.append(flat(method.build(given, Recorder()).models["all"]()))
    np.testing.assert_allclose(models[0], models[1], atol=1e-6)


def test_labels_are_looked_at_only_where_they_are_declared():
    assert fw().needs == Needs.IMAGES
    assert fw(loss="cross_entropy").needs == Needs.VAL_LABELS
    access = Recorder()
    method = fw(loss="cross_entropy", iterations=3).build(small_checkpoints(), access)
    assert access.seen == Needs.VAL_LABELS
    assert access.num_validation_passes == method.num_validation_passes == 3
    assert build(FWMerging, small_checkpoints(), iterations=1).report["points"][0] == "start"


# -- soft: several experts in every iteration ----------------------------------------------------


def soft(**config: object) -> FWMergingSoft:
    return FWMergingSoft(FWMergingSoft.Config.make(config))


def test_each_task_chooses_an_expert_of_its_own_and_ta_equals_numpy():
    ckpts = trained()
    method = soft(merge="ta", iterations=2, oracle="inner").build(ckpts, Recorder())
    order = sorted(TASKS)
    experts = [flat(dict(ckpts.experts[task])) for task in order]
    base = flat(dict(ckpts.base))
    theta = base + 0.3 * sum(expert - base for expert in experts)
    shapes = {name: ckpts.base.shape(name) for name in ckpts.base}
    for k, chosen in enumerate(method.report["chosen"]):
        assert sorted(chosen) == [1, 2, 3]  # three tasks, three experts, each once
        model = dict(cut(theta, shapes))
        left = [1, 2, 3]
        for task, place in zip(order, chosen, strict=True):
            found = flat(method.gradient(model, {task: (images(), None)}))
            want = min(left, key=lambda one: found @ experts[one - 1])
            assert place == want
            left.remove(place)
        theta = theta + 0.3 * 2 / (k + 2) * sum(expert - theta for expert in experts)
    np.testing.assert_allclose(flat(method.models["all"]()), theta, atol=1e-5)
    np.testing.assert_allclose(method.table.sum(1), 1, atol=1e-5)  # an affine combination


def cut(vector: np.ndarray, shapes: dict[str, tuple]):
    parts = np.split(vector, np.cumsum([int(np.prod(s)) for s in shapes.values()])[:-1])
    for (name, shape), part in zip(shapes.items(), parts, strict=True):
        yield name, torch.tensor(part.reshape(shape)).float()


def test_the_first_iteration_around_the_pretrained_model_is_adamerging():
    ckpts = small_checkpoints()
    method = soft(start="pretrained", iterations=1, steps=3, lr=0.01).build(ckpts, Recorder())
    other = METHODS["adamerging"](METHODS["adamerging"].Config(lr=0.01, clamp=False, batches=1))

    def fit(learner) -> None:
        adam = torch.optim.Adam(learner.learned.parameters(), lr=0.01)
        for _ in range(3):
            adam.zero_grad()
            with torch.enable_grad():
                learner.descend({task: images() for task in TASKS})
            adam.step()

    want = other.build(ckpts, Recorder(), fit)
    chosen = method.report["chosen"][0]
    assert sorted(chosen) == [1, 2, 3]
    gap = (method.table[:, 1:] - want.learned.raw.detach()).abs()
    assert gap.max() < 0.03  # three steps of 0.01: where a gradient is rounding, Adam goes anywhere
    assert (gap < 2e-4).float().mean() > 0.9
    assert (want.learned.raw - 0.3).abs().mean() > 0.01


def test_an_expert_of_no_measured_task_is_chosen_and_shows_no_image():
    seen: set[str] = set()

    class Watched(Recorder):
        def unlabeled(self, task: str):
            seen.add(task)
            return super().unlabeled(task)

    ckpts = trained()
    some = replace(ckpts, extra=frozenset({"three", "four"}))
    assert some.measured == ["two"]
    for method in (fw(iterations=1), soft(iterations=1, steps=1)):
        seen.clear()
        built = method.build(some, Watched())
        assert seen == {"two"}
        assert built.table.shape[1] == 4  # the start and all three experts


def test_needs_of_soft():
    assert soft().needs == soft(merge="ta").needs == Needs.IMAGES
    assert soft(loss="cross_entropy").needs == Needs.IMAGES | Needs.VAL_LABELS
    assert soft(loss="cross_entropy", merge="ta").needs == Needs.VAL_LABELS
    assert soft(loss="cross_entropy").num_validation_passes == 5
    assert soft(preset="published").cfg.steps == 500
