"""Encoders: pretrained image towers, each with its heads and one family of experts.

What one knows, the registry of them, and those that are built in: the pocket ViT, the toy, and
CLIP's from open_clip.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.config import HEADS, digest
from bench.zoo import open_clip_models
from bench.zoo.heads import PROTOTYPES, TEXT, class_means, of_templates
from bench.zoo.hub import Place, Published
from bench.zoo.pocket_clip import (
    FILE,
    MEAN,
    POCKET,
    STD,
    Vocabulary,
    captions,
    load_model,
    logit_scale,
    normalise,
    text_features,
)
from bench.zoo.recipes import AsPublished, FineTune, Preserving
from mergeshift import Registry, UserError, home, read_json, seed_of, sha256_of
from methods.common.vit import ViT, init_weights
from methods.common.weights import Weights, save_checkpoint
from tasks import Task
from tasks.pocket.pool import POOL, preservation_pool

FAMILIES = {  # where the experts of an encoder come from -> what is done where one is missing
    "hub": "to download",  # as somebody published them
    "finetuned": "to fine-tune",  # made here
    "imported": "to import",  # a user's own: python -m bench zoo import
}
NOT_HERE = "not here"  # stands for the hash of an encoder in a plan that downloads nothing
_planning: ContextVar[bool] = ContextVar("planning", default=False)


@contextmanager
def planning() -> Iterator[None]:
    """While the block runs nothing is downloaded to learn what an encoder is: for dry runs."""
    token = _planning.set(True)
    try:
        yield
    finally:
        _planning.reset(token)


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A pretrained image encoder with its zero-shot heads and one family of experts."""

    name: str
    title: str  # as printed in tables
    vit: ViT
    recipe: FineTune
    base: Callable[[], Weights]  # the pretrained image tower
    identity: Callable[[], str]  # 16 hex digits of all that is pretrained
    make_heads: Callable[[Sequence[Task]], dict[str, Tensor]]  # task -> [C, D], scaled unit rows
    is_ready: Callable[[], bool] = lambda: True  # whether base and identity need no download
    mean: tuple[float, ...] = MEAN  # of the pixels, by channel
    std: tuple[float, ...] = STD
    experts: str = "finetuned"  # one of FAMILIES
    plain: str = ""  # its name without the family's; empty for the encoder's own family
    published: Callable[[Task], Place] | None = None  # where the experts of the hub lie
    pool: Callable[[], np.ndarray] | None = None  # pictures of no task, for a Preserving recipe
    head: str = TEXT  # what its heads are made of, one of HEADS
    scale: Callable[[], float] = lambda: 100.0  # of cosines, in logits; CLIP's if not said
    unread: Callable[[Sequence[str]], list[str]] | None = None  # words that its text tower lacks
    clip: open_clip_models.OpenClip | None = None  # the whole model, text tower included

    def __post_init__(self) -> None:
        object.__setattr__(self, "plain", self.plain or self.name)

    @property
    def base_hash(self) -> str:
        """What the pretrained model is, text tower included: the start of its file's sha256."""
        return NOT_HERE if _planning.get() and not self.is_ready() else self.identity()

    @property
    def normalise(self) -> Callable[[Tensor], Tensor]:
        """Makes pixels what it wants.  ``uint8 [B, H, W, 3] -> float [B, 3, H, W]``."""
        return partial(normalise, mean=self.mean, std=self.std)

    @property
    def doing(self) -> str:
        """What has to be done with an expert that is missing, in words."""
        return FAMILIES[self.experts]

    @property
    def expert_steps(self) -> int:
        """Steps until such an expert is there."""
        return self.recipe.steps if self.experts == "finetuned" else 1

    def of(self, family: str) -> "Encoder":
        """The same encoder with experts of another family.

        Raises:
            UserError: it has no such family.
        """
        known = {other.experts: other for other in ENCODERS.values()
                 if (other.plain, other.head) == (self.plain, self.head)}  # fmt: skip
        if family not in known:
            raise UserError(f"{self.plain} has experts that are {', '.join(known)}; got {family!r}")
        return known[family]

    def with_heads(self, kind: str, tasks: Sequence[Task]) -> "Encoder":
        """The same encoder with heads of another kind.

        Args:
            kind: one of HEADS; empty: captions, or prototypes where the text tower does not know
                a word of the user's own classes.
            tasks: whose classes are named.

        Raises:
            UserError: there is no such kind.
        """
        if kind and kind not in HEADS:
            raise UserError(f"heads are {' or '.join(HEADS)}; got {kind!r}")
        wanted = kind or (PROTOTYPES if self.unread_classes(tasks) else self.head)
        if wanted == self.head:
            return self
        for other in ENCODERS.values():
            if (other.plain, other.experts, other.head) == (self.plain, self.experts, wanted):
                return other
        raise UserError(f"{self.name} has no heads of {wanted}")

    def unread_classes(self, tasks: Sequence[Task]) -> list[str]:
        """Words of the user's own classes that the text tower does not know."""
        names = [name for task in tasks if task.source.native for name in task.classes]
        return self.unread(names) if self.unread is not None and names else []

    @property
    def shelf(self) -> str:
        """The folder of its experts: its name without that of its heads."""
        return file_name(self.name.removesuffix(WITH_PROTOTYPES))

    def expert_key(self, task: Task, seed: int) -> str:
        """What decides an expert.

        One that is made here: base, recipe, seed, the task with its pixels and prompts, and the
        kind of head that it is trained against, if it is not of captions. One of the hub: base and
        place. One that was imported: base and its tensors.

        Raises:
            UserError: there is none: nobody published it, or it was not imported.
        """
        if self.experts == "hub":
            return digest((self.base_hash, "hub", asdict(self.place(task, seed))))
        if self.experts == "imported":
            return digest((self.base_hash, "imported", self._imported(task, seed)))
        data = (task.name, task.version, task.pixels, task.prompts)
        made = (self.base_hash, asdict(self.recipe), seed, data)
        return digest(made if self.head == TEXT else (*made, self.head))

    def expert_stem(self, task: Task, seed: int) -> str:
        """What the files of an expert are called. Tasks that share an expert share its file."""
        if self.experts == "finetuned":
            return f"{task.name}-{seed}-{self.expert_key(task, seed)}"
        which = seed if self.experts == "imported" else self.expert_key(task, seed)
        return f"{plain_name(task)}-{which}"

    def place(self, task: Task, seed: int) -> Place:
        """Where an expert lies on the hub.

        Raises:
            UserError: nobody published it, or there is no such set of experts.
        """
        if self.published is None or seed != 0:
            raise UserError(
                f"the hub has one set of experts of {self.plain}, 0; got expert seed {seed}: "
                "fine-tune others with --experts finetuned"
            )
        return self.published(task)

    def _imported(self, task: Task, seed: int) -> str:
        """The hash of an imported expert's tensors, from its manifest."""
        path = home() / "experts" / self.shelf / f"{self.expert_stem(task, seed)}.json"
        if not path.exists():
            raise UserError(
                f"no expert of {task.name} was imported for {self.plain}, set {seed}; "
                f"python -m bench zoo import FILE --task {task.name} --encoder {self.plain}"
            )
        return read_json(path)["tensors"]

    def heads(self, tasks: Sequence[Task]) -> dict[str, Tensor]:
        """Heads, each cached by all that decides it.  task -> ``[C, D]``.

        Those of captions are zero-shot: encoder, classes and prompts decide them; prototypes are of
        the train pictures.
        """
        found = {task.name: _stored(self._head(task), plain_name(task)) for task in tasks}
        missing = [task for task in tasks if found[task.name] is None]
        if self.head == PROTOTYPES:
            made = {task.name: class_means(task, self.base(), self.vit, self.normalise,
                                           self.scale()) for task in missing}  # fmt: skip
        else:
            made = self.make_heads(missing) if missing else {}
        for task in missing:
            save_checkpoint(self._head(task), {plain_name(task): made[task.name]})
        return {name: made[name] if head is None else head for name, head in found.items()}

    def without_head(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks whose heads are not in the cache."""
        return [t for t in tasks if _stored(self._head(t), plain_name(t)) is None]

    def _head(self, task: Task) -> Path:
        name, encoder = plain_name(task), file_name(self.plain)
        if self.head == PROTOTYPES:
            which = digest((self.base_hash, task.name, task.version, task.pixels))
            return home() / "heads" / f"{encoder}-{name}-{PROTOTYPES}-{which}.safetensors"
        which = digest((self.base_hash, name, task.prompts))
        return home() / "heads" / f"{encoder}-{name}-{which}.safetensors"


class Encoders(Registry[Encoder]):
    """The registry of encoders; it also knows any plain CLIP of open_clip's as ``MODEL:TAG``.

    ``ViT-B-32:laion2b_s34b_b79k`` is registered when it is first asked for, in every process.
    """

    def __getitem__(self, name: str) -> Encoder:
        if name not in self._items and ":" in name:
            model, _, rest = name.partition(":")
            add_by_tag(model, rest.partition("-")[0])
        return super().__getitem__(name)


ENCODERS: Encoders = Encoders("encoder")
WITH_PROTOTYPES = f"-{PROTOTYPES}"  # how the names of encoders end whose heads are prototypes


def file_name(encoder: str) -> str:
    """The name of an encoder as it stands in paths: no system refuses it.

    >>> file_name("ViT-B-32:laion2b_s34b_b79k"), file_name("ViT-B-32")
    ('ViT-B-32_laion2b_s34b_b79k', 'ViT-B-32')
    """
    return encoder.replace(":", "_")


def plain_name(task: Task) -> str:
    """A task's name without its protocol: ``sun397@published`` is the same data, split otherwise.

    Both share an expert that was not made here, and the heads.
    """
    return task.name.partition("@")[0]


def add(encoder: Encoder, *families: str) -> None:
    """Register an encoder and, under names of their own, the same with other experts and heads."""
    others = [replace(encoder, name=f"{encoder.name}-{family}", experts=family, plain=encoder.name)
              for family in families]  # fmt: skip
    for one in (encoder, *others):
        ENCODERS.add(one.name, one)
    for one in (encoder, *others):
        name, title = one.name + WITH_PROTOTYPES, f"{one.title}, heads of class means"
        ENCODERS.add(name, replace(one, name=name, title=title, head=PROTOTYPES))


def _stored(path: Path, name: str) -> Tensor | None:
    """A head from the cache; nothing if it is absent or damaged."""
    try:
        return Weights.open(path).get(name)
    except UserError:
        return None


OF_WORLD = {  # the encoder of a suite's world
    "pocket": "pocket-vit",
    "toy": "toy-vit",
    "vision": "ViT-B-32",
}


def world_with(world: str, encoder: Encoder) -> str:
    """What results say of pictures and encoder: the world of the pictures where CLIP sees them.

    Args:
        world: of a suite.
        encoder: which classifies its pictures, those of another world perhaps.
    """
    own = next((name for name, plain in OF_WORLD.items() if plain == encoder.plain), world)
    return f"{world}-{own}" if world == "vision" and own != world else world


@lru_cache(maxsize=1)
def _pocket_identity() -> str:
    return sha256_of(FILE)[:16]


def _pocket_heads(tasks: Sequence[Task]) -> dict[str, Tensor]:
    model, vocabulary = load_model()
    with torch.inference_mode():
        scale, found = model.logit_scale.exp().clamp(max=100), {}
        for task in tasks:
            texts = captions(vocabulary, task.prompts, task.classes)
            unit = text_features(model, vocabulary, texts)
            head = unit if len(task.templates) == 1 else of_templates(unit, task.num_classes)
            found[task.name] = (scale * head).clone()
        return found


def _unread(texts: Sequence[str]) -> list[str]:
    return _vocabulary().unknown(texts)


@lru_cache(maxsize=1)
def _vocabulary() -> Vocabulary:
    return Vocabulary.stored()


add(
    Encoder(
        name="pocket-vit",
        title="pocket ViT (32 px, 1.8 M; not CLIP)",
        vit=POCKET,
        recipe=Preserving(blocks=(0, 1, 2, 3), pool=POOL.pixels),
        pool=preservation_pool,
        base=lambda: Weights.open(FILE, prefix="visual."),
        identity=_pocket_identity,
        make_heads=_pocket_heads,
        scale=logit_scale,
        unread=_unread,
    ),
    "imported",
)

_TOY = ViT(image_size=32, patch_size=16, width=32, layers=2, heads=2, output_dim=16)


def _toy_base() -> Weights:
    return init_weights(_TOY, torch.Generator().manual_seed(seed_of("toy-vit")))


def _toy_heads(tasks: Sequence[Task]) -> dict[str, Tensor]:
    return {
        task.name: 20
        * F.normalize(
            torch.randn(
                task.num_classes,
                _TOY.output_dim,
                generator=torch.Generator().manual_seed(seed_of("toy head", task.name)),
            ),
            dim=-1,
        )
        for task in tasks
    }


add(
    Encoder(
        name="toy-vit",
        title="toy ViT (random start)",
        vit=_TOY,
        recipe=FineTune(steps=30, batch=32, lr=3e-3),
        base=_toy_base,
        identity=lambda: digest(("toy-vit", 1)),  # drawn, not trained: raise when that changes
        make_heads=_toy_heads,
        scale=lambda: 20.0,
    ),
    "imported",
)


def of_open_clip(
    name: str,
    title: str,
    source: open_clip_models.OpenClip,
    published: Callable[[Task], Place] | None,
    mean: tuple[float, ...] = open_clip_models.MEAN,
    std: tuple[float, ...] = open_clip_models.STD,
) -> Encoder:
    """An encoder of open_clip, with the experts of the hub where there are any."""
    return Encoder(
        name=name,
        title=title,
        vit=source.vit,
        recipe=AsPublished(),
        base=source.base,
        identity=source.identity,
        make_heads=source.heads,
        scale=source.scale,
        is_ready=source.is_ready,
        mean=mean,
        std=std,
        experts="hub" if published else "finetuned",
        published=published,
        clip=source,
    )


def add_by_tag(model: str, tag: str) -> None:
    """Register a CLIP by open_clip's names of it, with experts that are made or imported.

    Raises:
        UserError: see :func:`bench.zoo.open_clip_models.by_tag`.
    """
    name = f"{model}:{tag}"
    if name in ENCODERS._items:
        return
    source, facts = open_clip_models.by_tag(model, tag)
    mean, std = (tuple(map(float, facts[part])) for part in ("mean", "std"))
    add(of_open_clip(name, f"CLIP {model}, {tag}", source, None, mean, std), "imported")


for _name, _title, _vit, _size in (
    ("ViT-B-32", "CLIP ViT-B/32", open_clip_models.B32, "base-patch32"),
    ("ViT-B-16", "CLIP ViT-B/16", open_clip_models.B16, "base-patch16"),
    ("ViT-L-14", "CLIP ViT-L/14", open_clip_models.L14, "large-patch14"),
):
    _source = open_clip_models.OpenClip(f"{_name}-quickgelu", "openai", _vit)
    _published = Published(_size, _name)
    add(of_open_clip(_name, _title, _source, _published), "finetuned", "imported")
