"""The card of a model that is exported: what it was made from and how, and what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.index import method_order
from bench.reporting.sweep_index import load_sweep, rows_of
from bench.zoo.encoders import Encoder
from mergeshift import read_json, version
from methods import METHODS
from results.render.markup import markdown_escape
from results.render.text import render
from results.schema import CEILING, FLOOR
from results.store import Store
from results.tables.comparison import compare
from tasks import Task

LICENCES = {  # of pretrained weights, by how the name of an encoder or tag begins
    "pocket-vit": "mit",
    "openai": "mit",
    "laion": "mit",
    "datacomp": "mit",
}
LIBRARIES = {"hf": "transformers", "open_clip": "open_clip"}
CODE = {
    "hf": """\
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

model = CLIPVisionModelWithProjection.from_pretrained("FOLDER")
processor = CLIPImageProcessor.from_pretrained("FOLDER")
features = model(**processor(images, return_tensors="pt")).image_embeds""",
    "open_clip": """\
import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")
features = model.encode_image(preprocess(image)[None])""",
}
TEMPLATE = """\
---
{{ card_data }}
---

# {{ title }}

{{ about }}

```python
{{ code }}
```

## How it was made

| | |
| --- | --- |
{%- for name, text in facts.items() %}
| {{ name }} | {{ text }} |
{%- endfor %}

## What was measured

{{ measured }}

## Licences of the parts
{% for line in licences %}
- {{ line }}
{%- endfor %}
"""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where exported weights come from."""

    encoder: Encoder
    task: Task | None = None  # whose expert it is
    method: str = ""  # that merged it; empty where that is not known
    settings: Mapping[str, Any] = field(default_factory=dict)
    experts: Sequence[str] = ()  # as they were called
    measured: str = ""  # a table in Markdown


def model_card(origin: Origin, form: str) -> str:
    """A README.md as the Hugging Face hub shows it.

    Args:
        origin: of the weights.
        form: hf | open_clip, which says how they are loaded.

    Returns:
        Markdown with the metadata of the hub in front.
    """
    from huggingface_hub import ModelCard, ModelCardData

    encoder = origin.encoder
    base = base_model(encoder)
    data = ModelCardData(
        library_name=LIBRARIES[form],
        license=licence_of(encoder),
        base_model=base or None,
        tags=["mergeshift", *(["merge"] if origin.method or not origin.task else [])],
        pipeline_tag="image-feature-extraction",
    )
    card = ModelCard.from_template(
        data,
        template_str=TEMPLATE,
        title=title_of(origin),
        about=about(origin),
        code=CODE[form],
        facts={name: markdown_escape(text) for name, text in facts_of(origin, base).items()},
        measured=origin.measured or "Nothing yet: `python -m bench evaluate --weights FOLDER`.",
        licences=[markdown_escape(line) for line in licences_of(origin)],
    )
    return str(card).rstrip() + "\n"


def title_of(origin: Origin) -> str:
    """What the page is called."""
    title = origin.encoder.title
    if origin.task:
        return f"{title}, expert of {origin.task.title}"
    named = METHODS[origin.method].title if origin.method in METHODS else "merged weights"
    return f"{title}, {named}"


def about(origin: Origin) -> str:
    """One sentence."""
    tower = f"The image tower of {origin.encoder.title}"
    if origin.task:
        return f"{tower}, fine-tuned on {origin.task.title}."
    count = f" of {len(origin.experts)} experts" if origin.experts else ""
    return f"{tower}, merged{count} by MergeShift {version()}."


def facts_of(origin: Origin, base: str) -> dict[str, str]:
    """What a reader must know to make it again, or to judge a comparison."""
    vit = origin.encoder.vit
    found = {
        "base model": f"{origin.encoder.plain}{f' ({base})' if base else ''}, "
        f"sha256 {origin.encoder.base_hash} ...",
        "architecture": f"ViT, {vit.layers} layers, width {vit.width}, {vit.heads} heads, patches "
        f"of {vit.patch_size} pixels in {vit.image_size}",
    }
    if origin.task:
        return found | {"fine-tuned on": f"{origin.task.title}, the train split: images and labels"}
    method = METHODS.get(origin.method)
    if method is None:
        return found | {"method": "not known"}
    settings = ", ".join(f"{name}={value}" for name, value in origin.settings.items())
    paper = f" (arXiv:{method.paper.arxiv})" if method.paper.arxiv else ""
    return found | {
        "experts": ", ".join(origin.experts) or "not known",
        "method": f"{method.title}{paper}",
        "settings": settings or "none",
        "what it saw": str(method(method.Config.make(dict(origin.settings))).needs),
    }


def base_model(encoder: Encoder) -> str:
    """The repository on the hub of the pretrained model; empty where it is of none."""
    if encoder.clip is None or not encoder.clip.is_ready():
        return ""
    return str(encoder.clip.facts()["source"]["repository"])


def licence_of(encoder: Encoder) -> str | None:
    """The licence of the pretrained weights as the hub calls it; nothing if that is not known."""
    told = encoder.clip.pretrained if encoder.clip else encoder.plain
    return next((name for start, name in LICENCES.items() if told.startswith(start)), None)


def licences_of(origin: Origin) -> list[str]:
    """The licences of all that went into it, as far as they are known."""
    pretrained = licence_of(origin.encoder) or "not known; ask who trained them"
    lines = [f"pretrained weights of {origin.encoder.title}: {pretrained}"]
    if origin.task:
        lines.append(f"images of {origin.task.title}: {origin.task.licence}; {origin.task.use}")
    else:
        lines.append("experts: those of their owners, and of the images that they were made of")
    return lines


def measured_table(out: Path, content: str) -> str:
    """Our table of weights that were evaluated, beside the references, in Markdown.

    Args:
        out: a folder of results.
        content: the hash of the file that ``evaluate`` was given, see :class:`bench.config.Run`.

    Returns:
        Empty if they were not.
    """
    store = Store(out)
    records = [read_json(path) for path in sorted((out / "sweeps").glob("[!.]*.json"))]
    weights = [record for record in records if record["kind"] == "weights"]
    for record in sorted(weights, key=lambda record: record["started"], reverse=True):
        run = next(iter(record["runs"]))
        notes = store.path(run, "run").with_suffix(".json")
        if notes.exists() and store.run(run)["run"]["weights"] == content:
            whole = load_sweep(out, run=run)
            shown = [record["runs"][run], FLOOR, CEILING]
            rows = rows_of(out, whole, [name for name in shown if name in whole["runs"].values()])
            return render(compare(rows, order=method_order()), "md").strip()
    return ""
