"""AdaMerging: what is learned, from which suites and batches, and how its time is measured."""

from dataclasses import replace

import pytest
import torch
from rich.console import Console

from bench.profiling.adamerging import STEPS, measure, profile_adamerging, table
from mergeshift import UserError
from methods import METHODS, Checkpoints
from methods.adamerging import AdaMerging, rows_of, stack
from methods.common.losses import entropy
from methods.contract import TASKS, VIT, build, few_steps, logits, small_checkpoints
from tests.helpers.learning_methods import ADAMERGING, Curves, fit_on, random_images, ready


def test_rows_are_tensors_blocks_or_all():
    names = list(small_checkpoints().base)
    assert rows_of("layer", names, None) == ({name: i for i, name in enumerate(names)}, names)
    assert rows_of("task", names, None) == (dict.fromkeys(names, 0), ["all"])
    row, rows = rows_of("block", names, VIT)
    first, second = VIT.blocks
    assert rows == ["input", first, second, "output"]
    assert (row["conv1.weight"], row["ln_pre.bias"], row["proj"], row["ln_post.bias"]) == (
        0,
        0,
        3,
        3,
    )
    assert {row[name] for name in names if name.startswith(second)} == {2}


@pytest.mark.parametrize(
    ("name", "rows"), [("adamerging_task", 1), ("adamerging", 32), ("adamerging_pp", 32)]
)
def test_where_it_starts_it_is_arithmetic(name, rows):
    ckpts, keep = small_checkpoints(), {"keep": 1.0}
    method = build(METHODS[name], ckpts, lr=0.0, **keep)
    assert {k: v.shape for k, v in method.learned.state_dict().items()} == {"raw": (rows, 3)}
    want = logits(build(METHODS["task_arithmetic"], ckpts, scale=0.3))
    for task, values in logits(method).items():
        torch.testing.assert_close(values, want[task], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ADAMERGING)
def test_learning_makes_predictions_surer(name):
    ckpts, seen = small_checkpoints(), random_images(32)
    cls, curves = METHODS[name], Curves()
    method = cls(cls.Config(lr=0.02)).build(ckpts, fit=fit_on([seen] * 15, curves))
    losses = [step["loss"] for step in curves.steps]
    assert len(losses) == 15
    assert min(losses) == losses[-1] < 0.98 * losses[0]
    with torch.no_grad():
        after = sum(2 * entropy(method.predict(seen[task], task)).mean() for task in seen)
    assert after.item() < losses[-1]
    table = method.coefficients
    assert all(list(line) == list(TASKS) for line in table.values())
    assert list(table) == (["all"] if name == "adamerging_task" else list(ckpts.base))
    if name != "adamerging_task":  # what did not move in an expert cannot be learned, all else is
        taus = stack(ckpts, sorted(TASKS), method.cfg.keep)
        there = torch.stack([taus[layer].flatten(1).any(1) for layer in table])
        assert torch.equal((method.learned.raw - 0.3).abs() > 1e-3, there)
    assert not hasattr(method, "taus")  # what training alone needs is let go


@pytest.mark.parametrize("name", ADAMERGING)
def test_the_order_of_the_suite_changes_no_bit(name):
    ckpts = small_checkpoints()
    back = replace(ckpts, experts=dict(reversed(ckpts.experts.items())))
    one, other = build(METHODS[name], ckpts), build(METHODS[name], back)
    assert torch.equal(one.learned.raw, other.learned.raw)
    assert all(torch.equal(logits(one)[task], logits(other)[task]) for task in TASKS)
    assert list(next(iter(other.coefficients.values()))) == list(reversed(TASKS))
    again = METHODS[name]().build(back, learned=one.learned.state_dict())
    assert all(torch.equal(logits(one)[task], logits(again)[task]) for task in TASKS)


def test_nothing_is_shown_before_there_is_anything():
    assert METHODS["adamerging"]().coefficients == {}
    assert METHODS["ties"]().coefficients == {}
    assert METHODS["adamerging"]().depends_on_seed
    assert not METHODS["ties"]().depends_on_seed


def test_both_published_settings_have_a_name():
    config = AdaMerging.Config
    assert config.make({"preset": "original"}) == config()
    published = config.parse(["preset=fusionbench"])
    assert published == config(steps=1000, batches=1, clamp=False)
    for cfg, steps, batch in ((config(), 500, 32), (published, 1000, 16)):
        adaptation = AdaMerging(cfg).adaptation
        assert (adaptation.steps, adaptation.batch) == (steps, batch)
    task = METHODS["adamerging_task"].Config.make({"preset": "fusionbench"})
    assert (task.granularity, task.clamp) == ("task", False)
    assert METHODS["adamerging_pp"].Config().keep == 0.2


# -- odd suites and batches ----------------------------------------------------------------------


def with_tasks(*classes: int) -> Checkpoints:
    ckpts = small_checkpoints()
    experts = dict(list(ckpts.experts.items())[: len(classes)])
    heads = {task: 10 * torch.eye(VIT.output_dim)[:count]
             for task, count in zip(experts, classes, strict=True)}  # fmt: skip
    return replace(ckpts, experts=experts, heads=heads)


@pytest.mark.parametrize("name", ADAMERGING)
@pytest.mark.parametrize("classes", [(2, 3), (1, 2, 3), (1,)])
def test_few_tasks_and_a_task_of_one_class_work(name, classes):
    ckpts = with_tasks(*classes)
    method = build(METHODS[name], ckpts)
    assert method.learned.raw.isfinite().all()
    assert method.learned.raw.shape[1] == len(classes)
    if classes == (1,):  # nothing to be unsure of: nothing is learned
        assert torch.equal(method.learned.raw, torch.full_like(method.learned.raw, 0.3))


def test_a_task_of_one_class_adds_nothing():
    method = ready(ckpts=with_tasks(1, 2, 3))
    seen = random_images(4)
    assert method.descend({"two": seen["two"]}).item() == 0
    assert method.learned.raw.grad.abs().max() == 0
    alone = method.descend({task: seen[task] for task in ("three", "four")})
    assert alone.item() == pytest.approx(method.descend(seen).item())


@pytest.mark.parametrize("seen", [random_images(1), random_images(3, ["three"])])
def test_one_image_and_one_task_at_a_time_work(seen):
    ckpts, cls = small_checkpoints(), METHODS["adamerging"]
    method = cls().build(ckpts, fit=fit_on([seen, seen]))
    assert method.learned.raw.isfinite().all()
    assert not torch.equal(method.learned.raw, torch.full_like(method.learned.raw, 0.3))


def test_few_steps_are_counted():
    method = ready()
    few_steps(method)
    assert method.trainer.global_step == 2


# -- its time ------------------------------------------------------------------------------------


def test_every_way_to_make_a_step_gives_one_gradient():
    method = ready()
    found = measure(method, [random_images(32) for _ in range(3)])
    assert list(found) == list(STEPS)
    for name, timing in found.items():
        assert timing.seconds.shape == timing.times_ours.shape == (2,)  # the first warms up
        assert (timing.seconds > 0).all()
        assert timing.gap < 1e-5, name
    ours = next(iter(found.values()))
    assert (ours.gap, ours.times_ours.tolist()) == (0, [1, 1])
    assert table(found).row_count == 4


def test_timing_without_experts_says_how_to_make_them(tmp_path, monkeypatch):
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"toy lacks 3 experts, .*bench zoo build --suite toy"):
        profile_adamerging(Console(), "toy")
