"""`python -m modelbuild registry`: names and versions of packages, in a folder that many may share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any

from modelbuild.arguments import PACKAGE, Parser
from modelbuild.errors import ConfigError
from modelbuild.package_folder import package_folder
from modelbuild.registry import Entry, Reference, Registry, parse_reference
from modelbuild.registry.references import checked_name
from modelbuild.registry.root import require_begun

_HELP = {
    "add": "publish the package in a folder as a version of a model; it must have been proven",
    "list": "models, with their versions and what is in which stage",
    "show": "what is known of a version: export, opset, versions of tools, parity, performance",
    "resolve": "the folder of a version, for other programs",
    "assign": "put a version into a stage, such as production",
    "measure": "time a version on this machine, and keep it with the version",
    "unassign": "leave a stage empty",
    "remove": "take a version out; its number is not given again",
}


def run(words: list[str]) -> int:
    """Do what `words` say in the registry. Returns 0.

    Raises ConfigError for words that mean nothing, PackageError for a model or version that is not there or cannot be
    added, ValidationError for a package that was not proven, and HostError where nothing can be read or written.
    """
    chosen = _parser().parse_args(words)
    _ACTIONS[chosen.action](Registry(chosen.registry), chosen)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m modelbuild registry", description=__doc__)
    shared = Parser(add_help=False)
    shared.add_argument("--registry", metavar="DIR", help="its folder; that of MODELBUILD_REGISTRY if not given")
    shared.add_argument("--json", action="store_true", help="print it for programs")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    made = {name: actions.add_parser(name, help=text, parents=[shared]) for name, text in _HELP.items()}
    made["add"].add_argument("package", metavar="PACKAGE", help=PACKAGE)
    made["add"].add_argument(
        "name",
        metavar="NAME[@VERSION]",
        help="without a version: the next minor one, or major where it takes or gives something else",
    )
    made["add"].add_argument("--stage", default="", help="and put it into a stage, such as production")
    made["list"].add_argument("name", metavar="NAME", nargs="?", type=checked_name, help="of one model only")
    for action in ("show", "resolve", "measure"):
        made[action].add_argument(
            "reference", metavar="NAME[@RANGE|#STAGE]", help="such as minilm@^1, minilm#production"
        )
    for action in ("assign", "remove"):
        made[action].add_argument("reference", metavar="NAME@VERSION", help="such as minilm@1.2.0")
    made["assign"].add_argument("stage", metavar="STAGE", help="such as production")
    made["unassign"].add_argument("reference", metavar="NAME#STAGE", help="such as minilm#production")
    return parser


def _add(registry: Registry, chosen: argparse.Namespace) -> None:
    name, version = _named(chosen.name)
    entry = registry.add(package_folder(chosen.package), name, version or None, stage=chosen.stage)
    _print(chosen, entry.to_dict(), f"{entry.name} {entry.version}  {entry.digest[:12]}")


def _list(registry: Registry, chosen: argparse.Namespace) -> None:
    require_begun(registry.root)
    if chosen.name and not registry.versions(chosen.name):
        registry.entry(chosen.name)  # raises what it is called instead
    names = [chosen.name] if chosen.name else registry.names()
    found: dict[str, Any] = {
        name: {"versions": [str(version) for version in registry.versions(name)], "stages": registry.stages(name)}
        for name in names
    }
    lines = [
        f"{name}  {', '.join(reversed(facts['versions']))}{_in_stages(facts['stages'])}"
        for name, facts in found.items()
    ]
    _print(chosen, found, "\n".join(lines) or "nothing was published")


def _in_stages(stages: dict[str, str]) -> str:
    return f"  ({', '.join(f'{stage}: {version}' for stage, version in stages.items())})" if stages else ""


def _show(registry: Registry, chosen: argparse.Namespace) -> None:
    entry = registry.entry(chosen.reference)
    measured = registry.performance(entry)
    _print(chosen, entry.to_dict() | {"performance": measured}, _lines(entry, measured))


def _measure(registry: Registry, chosen: argparse.Namespace) -> None:
    from modelbuild.runtime.load import load
    from modelbuild.runtime.timing import golden_latency

    entry = registry.entry(chosen.reference)
    version = Reference(entry.name, versions=entry.version)  # a newer one may come meanwhile
    with load(registry.resolve(version)) as model:
        facts = golden_latency(model)
    registry.measured(version, facts)
    _print(chosen, facts, f"{entry.name} {entry.version}\n{_performance(facts)}")


def _lines(entry: Entry, measured: list[Mapping[str, Any]]) -> str:
    build = entry.build
    facts = {
        "model": f"{entry.name} {entry.version}, published {entry.published}",
        "digest": entry.digest,
        "size": f"{entry.size_bytes / (1 << 20):.1f} MiB",
        "task": entry.task,
        "export": ", ".join(
            f"{key} {build[key].get('kind')}" for key in ("exporter", "optimization", "precision") if key in build
        ),
        "opsets": "; ".join(f"{graph}: {_opsets(found)}" for graph, found in entry.opsets.items()),
        "needs": f"onnxruntime {entry.oldest_onnxruntime} or newer",
        "tools": ", ".join(f"{name} {version}" for name, version in entry.tools.items()),
        "parity": f"{len(entry.parity.get('checks', {}))} checks passed",
    }
    return "\n".join([*(f"{name:<8} {text}" for name, text in facts.items() if text), *map(_performance, measured)])


def _opsets(found: Mapping[str, int]) -> str:
    return ", ".join(f"{domain or 'ai.onnx'} {number}" for domain, number in found.items())


def _performance(facts: Mapping[str, Any]) -> str:
    """The medians on one machine: of the benchmark where it was built, of the golden inputs elsewhere."""
    found = {label: case["onnxruntime"]["p50_ms"] for label, case in facts.get("cases", {}).items()}
    found |= {f"{graph} (golden inputs)": case["p50_ms"] for graph, case in facts.get("golden", {}).items()}
    medians = ", ".join(f"{label} {value:.3g} ms" for label, value in found.items())
    host = dict(facts["host"])
    cores, release = host.pop("cores", None), host.pop("onnxruntime", None)
    said = [*host.values(), *([f"{cores} cores"] if cores else []), *([f"onnxruntime {release}"] if release else [])]
    return f"{'on':<8} {', '.join(map(str, said))}: {medians}"


def _resolve(registry: Registry, chosen: argparse.Namespace) -> None:
    folder = registry.resolve(chosen.reference)
    _print(chosen, {"folder": str(folder)}, str(folder))


def _assign(registry: Registry, chosen: argparse.Namespace) -> None:
    name, version = _named(chosen.reference, exact=True)
    entry = registry.assign(name, version, chosen.stage)
    _print(chosen, entry.to_dict(), f"{entry.name} {entry.version} is in {chosen.stage}")


def _remove(registry: Registry, chosen: argparse.Namespace) -> None:
    name, version = _named(chosen.reference, exact=True)
    found = str(registry.remove(name, version))
    _print(chosen, {"name": name, "version": found}, f"{name} {found} was removed")


def _unassign(registry: Registry, chosen: argparse.Namespace) -> None:
    reference = parse_reference(chosen.reference)
    if not reference.stage:
        raise ConfigError(f"'{chosen.reference}' names no stage", hint=f"write {reference.name}#production")
    found = registry.unassign(reference.name, reference.stage)
    facts = {"name": reference.name, "version": found, "stage": reference.stage}
    _print(chosen, facts, f"{reference.name} {found} is no longer in {reference.stage}")


def _named(text: str, *, exact: bool = False) -> tuple[str, str]:
    reference = parse_reference(text)
    if reference.stage or (exact and not reference.versions):
        raise ConfigError(f"'{text}' names no version", hint=f"write {reference.name}@1.2.0")
    return reference.name, reference.versions


def _print(chosen: argparse.Namespace, facts: Any, text: str) -> None:
    print(json.dumps(facts, indent=2) if chosen.json else text)


_ACTIONS: dict[str, Callable[[Registry, argparse.Namespace], None]] = {
    "add": _add,
    "list": _list,
    "show": _show,
    "resolve": _resolve,
    "assign": _assign,
    "unassign": _unassign,
    "measure": _measure,
    "remove": _remove,
}
