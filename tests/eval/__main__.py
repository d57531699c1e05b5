"""Measures models and descriptors: `make eval` → build/eval.json, eval.md. It must not know how that is done."""

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.group import ModelSpec, load_group
from models.numbers import DIGITS
from tests import asterisk
from tests.eval import corpora, costs, describing, report, scenes, whisper_weights
from tests.eval.hearing import PROCESSES, hear, say
from tests.eval.samples import Sample

CORPORA: dict[str, Callable[[], list[Sample]]] = {
    "voices": corpora.voices,
    "nonspeech": corpora.nonspeech,
    "splices": corpora.splices,
}
OTHERS = ("scenes", "descriptors")
NAMES = ("prompts", *CORPORA, *OTHERS)
PHRASES = tuple(asterisk.PHRASES)
QUALITY_TIER = "whisper-base"
QUALITY_EVERY = 3  # of its prompts: it takes ten times as long
SPLICED = (*PHRASES, *DIGITS)  # single words are cut out of prompts, and those are mostly digits


def main() -> None:
    asked = parser().parse_args()
    corpora.require()
    load_before = os.getloadavg()
    spec = spec_of(asked.model, PHRASES)
    conditions = []
    phrases = [name for name in asked.corpora if name not in OTHERS]
    if not asked.model and "prompts" in phrases:
        conditions += quality_tier(asked.half, asked.processes)
    for name, samples in chosen(phrases, asked.conditions.split(","), asked.half):
        labels = SPLICED if name == "splices" else PHRASES
        say(f"{name}: {len(samples)} samples")
        heard = hear(samples, spec_of(asked.model, labels), asked.processes)
        conditions += report.conditions_of(heard, labels)
    if asked.dump:
        report.dump(conditions, asked.dump)
    run = {
        "model": spec.name,
        "model_version": spec.version,
        "half": asked.half,
        "load_average_before": round(load_before[0], 1),
        "load_average_after": round(os.getloadavg()[0], 1),
    }
    measured = costs.measure(spec) if asked.costs and phrases else {}
    figures = report.figures_of(conditions, measured | others(asked.corpora, asked.half)) | run
    report.write(figures, conditions, asked.into)
    for name, target in report.FIGURES.items():
        print(f"{name:26} {figures[name]!s:>10}  {target or ''}")


def others(names: list[str], half: str) -> dict[str, Any]:
    """Return the figures of what is no phrase."""
    figures: dict[str, Any] = {}
    if "scenes" in names:
        say("scenes")
        figures |= scenes.measure(half)
    if "descriptors" in names:
        say("descriptors")
        figures |= describing.measure()
    return figures


def quality_tier(half: str, processes: int) -> list[report.Condition]:
    """Return what the disabled model of the highest quality makes of a few prompts, beside those that are enabled."""
    spec = spec_of(QUALITY_TIER, PHRASES)
    samples = [sample for sample in corpora.prompts("8k") if half in (sample.half, "both")][::QUALITY_EVERY]
    say(f"{spec.name}: {len(samples)} samples")
    heard = hear([replace(sample, corpus=spec.name) for sample in samples], spec, processes)
    return report.conditions_of(heard, PHRASES)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m tests.eval", description=__doc__)
    options.add_argument(
        "--corpora",
        type=names_of,
        default=list(NAMES),
        metavar="NAMES",
        help=f"of {','.join(NAMES)}, all by default; what is left out has no figures",
    )
    options.add_argument("--conditions", default=",".join(corpora.CONDITIONS), help="of the prompts")
    options.add_argument("--half", choices=("reporting", "fitting", "both"), default="reporting")
    options.add_argument("--model", help="its name in the group file, enabled or not; by default the first enabled one")
    options.add_argument("--processes", type=int, default=PROCESSES)
    options.add_argument("--no-costs", dest="costs", action="store_false", help="leave out CPU time and memory")
    options.add_argument("--dump", type=Path, metavar="FILE", help="write every detection and miss as a line of JSON")
    options.add_argument("--into", type=Path, default=Path("build"), metavar="FOLDER")
    return options


def names_of(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not of {', '.join(NAMES)}")
    return names


def spec_of(name: str | None, labels: tuple[str, ...]) -> ModelSpec:
    found = [
        spec
        for spec in load_group(labels).models
        if spec.task == "phrases" and (spec.name == name if name else spec.enabled)
    ]
    if not found:
        raise SystemExit(f"no model for phrases in the group file that is {name or 'enabled'}")
    if found[0].family == "whisper":  # an installation has its weights where it likes
        return replace(found[0], source=f"folder:{whisper_weights.folder()}")
    return found[0]


def chosen(names: list[str], conditions: list[str], half: str) -> list[tuple[str, list[Sample]]]:
    """Return the samples to hear, corpus by corpus."""
    found = [(f"prompts {name}", corpora.prompts(name)) for name in conditions if "prompts" in names]
    found += [(name, CORPORA[name]()) for name in names if name != "prompts"]
    # Nothing is ever tuned on what is no speech.
    return [
        (name, [sample for sample in samples if name == "nonspeech" or half in (sample.half, "both")])
        for name, samples in found
    ]


if __name__ == "__main__":
    main()
