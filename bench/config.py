"""What a sweep is, what a run is, and what identifies them in stored results."""

import json
import re
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

from bench.variants import Variant, methods_of, parse
from mergeshift import UserError

DEFAULT_SHIFTS = ("clean", "L1", "L2", "L3")

REFERENCES = ("pretrained", "individual", "average")

STATIC = ("task_arithmetic", "ties")

ADAPT_ON = ("adapt", "test", "shifted")

HEADS = {  # what classification heads are made of, see bench/zoo/heads.py -> in words
    "text": "captions of the class names",
    "prototypes": "class means of the train pictures",
}

PROTOCOLS = {  # as it may be written -> as it is kept
    "": "",
    "task": "",  # batches of one task, each image under the head of its own
    "mixed-task": "mixed-task",  # batches of all tasks, each image under the head of its own
    "hidden-task": "hidden-task",  # nobody is told the task: each image under all heads
}
HIDDEN, MIXED = "hidden-task", "mixed-task"


def stored_protocol(name: str, what: str = "protocol of a sweep") -> str:
    """A protocol as it is kept.

    Raises:
        UserError: there is none of this name.
    """
    if name not in PROTOCOLS:
        raise UserError(f"{what} is one of {', '.join(filter(None, PROTOCOLS))}; got {name!r}")
    return PROTOCOLS[name]


PRECISIONS = {"": "", "32": "", "bf16": "bf16"}  # as it may be written -> as it is kept


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A comparison: methods x shifts x seeds on one suite. A TOML file has the same fields."""

    name: str = "custom"
    suite: str = "pocket8"
    encoder: str = ""  # "" takes the suite's own
    methods: tuple[str, ...] = (*REFERENCES, *STATIC)  # or variants of them: "ties[keep=0.1]"
    shifts: tuple[str, ...] = DEFAULT_SHIFTS
    seeds: tuple[int, ...] = (0,)  # of the methods; one that has no chance in it takes the first
    expert_seeds: tuple[int, ...] = (0,)  # which sets of experts; every run takes one of them
    limit: int | None = None  # test images per task, at most; None takes all
    val_limit: int | None = None  # val images per task that constants are chosen on, at most
    tune: bool = True  # search the declared grid on val; else the declared defaults
    settings: tuple[str, ...] = ()  # "method.field=value"; a field that is set is not tuned
    constants: str = ""  # imagenet-c | cifar10-c; "" takes the input size's own
    placement: str = "input"  # input | native: where in the preprocessing a shift is applied
    data_seed: int = 0  # of the corruptions
    adapt_on: str = "adapt"  # what methods learn from: the adapt split | test | shifted (test)
    unseen: tuple[str, ...] = ()  # tasks whose experts are not merged; measured like the others
    uncertainty: bool = False  # keep how sure methods are of each image; changes no other number
    precision: str = ""  # of evaluating: bf16; or "", which is 32 bits. Merging always has 32
    temperature: bool = False  # fit one to each method on clean val; changes no other number
    heads: str = ""  # text | prototypes; "" takes captions, or prototypes where words are unknown
    extra_experts: tuple[str, ...] = ()  # tasks outside the suite whose experts are merged as well
    protocol: str = ""  # mixed-task | hidden-task; or "", which is task: see PROTOCOLS

    def __post_init__(self) -> None:
        if self.adapt_on not in ADAPT_ON:
            raise UserError(
                f"adapt_on of a sweep is one of {', '.join(ADAPT_ON)}; got {self.adapt_on!r}"
            )
        if self.precision not in PRECISIONS:
            raise UserError(f"precision of a sweep is 32 or bf16; got {self.precision!r}")
        object.__setattr__(self, "precision", PRECISIONS[self.precision])
        object.__setattr__(self, "protocol", stored_protocol(self.protocol))
        if self.heads not in ("", *HEADS):
            raise UserError(f"heads of a sweep are {' or '.join(HEADS)}; got {self.heads!r}")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit is a number of images, at least 1; got {self.limit}")
        if self.val_limit is not None and self.val_limit < 1:
            raise UserError(f"val_limit is a number of images, at least 1; got {self.val_limit}")
        if not self.name or set(self.name) & set("/\\"):
            raise UserError(f"the name of a sweep is part of a file name; got {self.name!r}")
        if not self.methods or not self.shifts or not self.seeds or not self.expert_seeds:
            raise UserError(
                "a sweep needs at least one method, one shift, one seed and one set of experts"
            )
        object.__setattr__(self, "expert_seeds", tuple(dict.fromkeys(self.expert_seeds)))
        methods_of(self.methods)  # are they well written?

    @property
    def lines(self) -> list[Variant]:
        """The methods and variants that are compared.

        Raises:
            UserError: one is written in any other way than ``method[field=value,field=value]``.
        """
        return [parse(text) for text in self.methods]

    def fields_of(self, line: Variant) -> dict[str, str]:
        """The fields that are set for one line: its own, and those set for the whole method."""
        return {**self.settings_of(line.method), **line.fields}

    def settings_of(self, method: str) -> dict[str, str]:
        """The fields of ``method`` that this sweep sets.

        Raises:
            UserError: a setting is not ``method.field=value``, or a field has two values.
        """
        found: dict[str, str] = {}
        for setting in self.settings:
            key, equals, value = setting.partition("=")
            owner, dot, name = key.partition(".")
            if not equals or not dot:
                raise UserError(
                    f"a setting is METHOD.FIELD=VALUE; got {setting!r}, write e.g. ties.keep=0.1"
                )
            if owner not in methods_of(self.methods):
                raise UserError(f"--set {setting}: {owner!r} is not in this sweep")
            if owner == method and found.setdefault(name, value) != value:
                raise UserError(
                    f"--set {setting}: {key} is {found[name]} already; give it one value"
                )
        return found


def digest(value: object) -> str:
    """16 hex digits of ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, default=str)
    return blake2b(text.encode(), digest_size=8).hexdigest()


# Not in the first stored results.
FIELDS_ADDED_LATER = (
    "unseen", "uncertainty", "precision", "heads", "val_limit", "temperature",
    "extra_experts", "protocol",
)  # fmt: skip


def identity_fields(value: "Sweep | Run") -> dict[str, Any]:
    """The fields of a sweep or a run that say what it is: what is new and not used says nothing.

    So results that were stored before there was a field are still found.
    """
    known = stored_fields(value) if isinstance(value, Sweep) else asdict(value)
    return {name: v for name, v in known.items() if v or name not in FIELDS_ADDED_LATER}


def stored_fields(sweep: Sweep) -> dict[str, Any]:
    """The fields of a sweep as they are stored: a single set of experts under its former name."""
    found = asdict(sweep)
    sets = found.pop("expert_seeds")
    return found | ({"expert_seed": sets[0]} if len(sets) == 1 else {"expert_seeds": sets})


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that decides a result except the shifts; its id is the hash of all of it."""

    suite: str
    tasks: tuple[str, ...]  # "name-version-pixels", in suite order
    encoder: str
    base: str  # sha256 of the pretrained weights, shortened
    experts: tuple[str, ...]  # key of each expert, in suite order; extra ones come last
    expert_seed: int
    method: str
    version: int  # of the method, and of one that it is around
    config: str  # canonical JSON: the chosen fields, or the defaults that tuning starts from
    grid: str  # canonical JSON of the grid to search on val; "" when not tuned
    seed: int
    limit: int | None
    data_seed: int
    adapt_on: str = ""  # what a method that learns from images is shown: adapt | test | shifted
    weights: str = ""  # sha256 of a model that was merged elsewhere
    unseen: tuple[str, ...] = ()  # tasks whose experts are left out, in suite order
    precision: str = ""  # bf16, if it is evaluated so
    val_limit: int | None = None  # where constants are chosen or searched on val; None: on all
    extra_experts: tuple[str, ...] = ()  # tasks that are not measured, whose experts are merged
    protocol: str = ""  # how test images are put before the model, if not task by task

    def val_images(self, size: int) -> int:
        """How many images constants are chosen on of a task that has ``size`` of them in val."""
        return min(size, self.val_limit or size)

    @property
    def id(self) -> str:
        """Name of the result folder: a readable start, an exact end."""
        readable = re.sub(r"[^\w.-]", "_", f"{self.suite}-{self.method}")
        return f"{readable}-{digest(identity_fields(self))}"

    @property
    def tuned(self) -> bool:
        """Whether the config is chosen on val."""
        return bool(self.grid)
