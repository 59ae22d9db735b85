"""Heads of captions and of class means: their numbers, and which of them are taken."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bench.config import Sweep
from bench.plan import resolve
from bench.plan_summary import about_heads
from bench.zoo.encoders import ENCODERS, world_with
from bench.zoo.experts import Expert
from bench.zoo.heads import class_means, of_templates
from bench.zoo.pocket_clip import Vocabulary, captions, load_model, logit_scale
from mergeshift import UserError
from methods.common.vit import encode_plain
from results.schema import WORLDS
from tasks import TASKS, load
from tasks.task import Task
from tests.helpers.pictures import tree

TOY = TASKS["toy_three"]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.stored()


@pytest.fixture
def local(data_folder):
    """Makes a task with these classes."""

    def make(name: str, *classes: str) -> Task:
        tree(data_folder / name, list(classes), whole=10)
        return TASKS[f"local_{name}@32"]

    return make


# -- class means ---------------------------------------------------------------------------------


def test_a_prototype_is_the_unit_mean_feature_of_its_class():
    encoder, split = ENCODERS["toy-vit"], load(TOY, "train")
    images = torch.from_numpy(np.array(split.images))
    with torch.inference_mode():
        features = encode_plain(encoder.normalise(images), encoder.base(), encoder.vit)
    unit = features.double().numpy()
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for label, row in enumerate(ENCODERS["toy-vit-prototypes"].heads([TOY])[TOY.name].numpy()):
        mean = unit[split.labels == label].mean(0)
        np.testing.assert_allclose(row, 20 * mean / np.linalg.norm(mean), rtol=0, atol=2e-5)


def test_heads_of_both_kinds_lie_side_by_side_in_the_cache():
    plain, means = ENCODERS["toy-vit"], ENCODERS["toy-vit-prototypes"]
    first = means.heads([TOY])[TOY.name]
    assert means.without_head([TOY]) == []
    assert torch.equal(means.heads([TOY])[TOY.name], first)
    assert not torch.equal(plain.heads([TOY])[TOY.name], first)
    changed = replace(TOY, pixels="other pictures")
    assert means.without_head([TOY, changed]) == [changed]
    assert plain.without_head([changed]) == []  # captions know nothing of pictures


def test_a_class_without_train_pictures_has_no_prototype():
    encoder = ENCODERS["toy-vit"]
    more = replace(TOY, classes=(*TOY.classes, "ghost"))
    with pytest.raises(UserError, match=r"class 'ghost' of toy_three has no train picture"):
        class_means(more, encoder.base(), encoder.vit, encoder.normalise, 20.0)


def test_captions_of_several_templates_are_averaged_on_the_sphere():
    unit = F.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    found = of_templates(unit, 2).numpy()
    for row, parts in zip(found, unit.numpy().reshape(2, 3, 4), strict=True):
        mean = parts.mean(0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), rtol=1e-5)


# -- whose they are ------------------------------------------------------------------------------


def test_only_heads_that_are_not_the_default_change_keys_and_ids():
    plain, means = ENCODERS["toy-vit"], ENCODERS["toy-vit-prototypes"]
    assert means.expert_key(TOY, 0) != plain.expert_key(TOY, 0)  # it is trained against its head
    imported = ENCODERS["toy-vit-imported"], ENCODERS["toy-vit-imported-prototypes"]
    assert imported[0].expert_stem(TOY, 0) == imported[1].expert_stem(TOY, 0)  # it was made before
    keys = [Expert(encoder.name, TOY.name, 0).val_key for encoder in (plain, *imported, means)]
    assert keys[0] == keys[1] != keys[2] == keys[3]
    ids = [resolve(Sweep(suite="toy", methods=("average",), heads=heads)).runs[0].id
           for heads in ("", "text", "prototypes")]  # fmt: skip
    assert ids[0] == ids[1] != ids[2]


def test_families_keep_their_heads():
    for name in ("toy-vit", "pocket-vit", "ViT-B-32"):
        for heads in ("text", "prototypes"):
            encoder = ENCODERS[name].with_heads(heads, [])
            assert encoder.of("imported").head == encoder.head == heads
            assert encoder.of("imported").of(encoder.experts) is encoder
            assert encoder.plain == name
            assert encoder.shelf == name
            assert encoder.with_heads("", []) is encoder
    with pytest.raises(UserError, match="heads are text or prototypes; got 'means'"):
        ENCODERS["toy-vit"].with_heads("means", [])
    with pytest.raises(UserError, match="heads of a sweep are text or prototypes; got 'means'"):
        Sweep(heads="means")


def test_results_say_whose_encoder_sees_the_pictures():
    names = ("ViT-B-16", "ViT-B-32-finetuned", "pocket-vit", "pocket-vit-imported-prototypes",
             "toy-vit")  # fmt: skip
    found = [world_with("vision", ENCODERS[name]) for name in names]
    assert found == ["vision", "vision", "vision-pocket", "vision-pocket", "vision-toy"]
    assert all("not CLIP" in WORLDS[world] for world in found[2:])
    for world, name in (("pocket", "pocket-vit"), ("pocket", "toy-vit"), ("toy", "toy-vit")):
        assert world_with(world, ENCODERS[name]) == world  # as stored results have it


# -- words that the pocket encoder does not know -------------------------------------------------


def test_words_that_are_not_known_are_found_and_left_out(vocabulary):
    assert vocabulary.unknown(["a photo of a zebra", "a zebra, striped", "violins"]) == [
        ",", "striped", "violins"
    ]  # fmt: skip
    assert vocabulary.unknown([]) == []
    assert vocabulary.readable("a photo of a violin.") == "a photo of a"
    assert vocabulary.readable("texture: zebra") == "texture: zebra"  # all known: as it is
    assert vocabulary == load_model()[1]


def test_classes_that_differ_in_unknown_words_alone_have_no_captions(vocabulary):
    prompts = ["a photo of a dog.", "a photo of a violin dog."]
    with pytest.raises(UserError) as caught:
        captions(vocabulary, prompts, ["dog", "violin dog"])
    assert "reads 'dog' and 'violin dog' alike, as 'a photo of a dog'" in str(caught.value)
    assert "--heads prototypes" in str(caught.value)
    assert captions(vocabulary, ["a dog.", "a photo of a dog", "a cat.", "a cat"], ["a", "b"]) == [
        "a dog", "a photo of a dog", "a cat", "a cat"
    ]  # fmt: skip


def test_the_kind_of_heads_follows_the_words_of_the_classes(local):
    encoder = ENCODERS["pocket-vit"]
    known, strange = local("pets", "cat", "dog"), local("music", "violin", "tuba")
    assert encoder.with_heads("", [known]) is encoder
    assert encoder.with_heads("", [known, strange]).name == "pocket-vit-prototypes"
    assert encoder.with_heads("text", [known, strange]) is encoder
    assert encoder.unread_classes([known, strange]) == ["tuba", "violin"]
    assert encoder.unread_classes([TASKS["letters"]]) == []  # of the pocket world: not asked
    assert ENCODERS["ViT-B-32"].unread_classes([strange]) == []  # CLIP reads all words


def test_the_plan_says_what_heads_are_made_of(local):
    local("pets", "cat", "dog")
    sweep = Sweep(suite="vision_local", encoder="pocket-vit", methods=("average",))
    assert about_heads(resolve(sweep)) == (
        "captions of the class names without '.', which the text tower of pocket-vit does not "
        "know; compare --heads prototypes"
    )
    assert about_heads(resolve(replace(sweep, heads="prototypes"))) == (
        "class means of the train pictures; `pretrained` is not zero-shot then"
    )
    local("music", "violin", "tuba")
    plan = resolve(sweep)
    assert about_heads(plan) == (
        "class means of the train pictures: the text tower of pocket-vit does not know tuba, "
        "violin; `pretrained` is not zero-shot then"
    )
    assert (plan.sweep.suite, plan.encoder.name) == ("vision_local@32", "pocket-vit-prototypes")
    assert about_heads(resolve(Sweep(suite="toy", methods=("average",)))) == ""


def test_a_head_of_several_templates_has_a_row_for_each_class(local, data_folder):
    local("pets", "cat", "dog")
    (data_folder / "pets" / "task.json").write_text('{"templates": ["a {}", "a photo of a {}"]}')
    task = TASKS["local_pets@32"]
    one = [replace(task, templates=(t,), template="") for t in task.templates]
    whole, *parts = (ENCODERS["pocket-vit"].make_heads([t])[task.name] for t in (task, *one))
    mean = sum(part.double().numpy() for part in parts)
    expected = logit_scale() * mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(whole.numpy(), expected, rtol=1e-4, atol=1e-4)
