"""The module tree of an exported graph, as plain facts: which PyTorch module its nodes came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelbuild.errors import PackageError

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How many nodes a graph has, how many of them say which module of the model they came from, and how many tags of
    each source there are. Tags that name a module which the model does not have are in `tags` alone.
    """

    nodes: int = 0
    tagged_nodes: int = 0
    tags: Mapping[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """The share of nodes with a tag, 0 for a graph without nodes."""
        return round(self.tagged_nodes / max(1, self.nodes), 4)

    @property
    def astray_nodes(self) -> int:
        """How many nodes name a module that the model does not have."""
        return sum(self.tags.values()) - self.tagged_nodes


@dataclass(frozen=True, kw_only=True)
class Module:
    """One module: its class (nothing where that is not known), the parameters that it has itself, tied ones counted
    where they are first, and the nodes that came from it itself, in the exported graph and in the one that ships.
    """

    class_name: str = ""
    parameters: int = 0
    nodes: int = 0
    shipped_nodes: int = 0


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """The modules of a model by path, parents first (`""` is the model itself), and how much of its graph they explain.

    `strategy` is where tags came from: `dynamo`, from the exporter's metadata; `torchscript`, from the scopes in the
    names of nodes; `file`, whatever was in it; `unknown` where a report does not say. `shipped` is None before
    optimization.
    """

    strategy: str
    exported: Coverage
    modules: Mapping[str, Module]
    shipped: Coverage | None = None

    @property
    def tagged_by_exporter(self) -> bool:
        """Whether the exporter itself tagged nodes, as dynamo does and TorchScript does not."""
        return self.exported.tags.get("exporter", 0) > 0

    def module_types(self) -> dict[str, int]:
        """How many modules there are of each class, the most frequent first."""
        counts = Counter(module.class_name for module in self.modules.values() if module.class_name)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def parents(self) -> dict[str, str]:
        """For each module but the model itself the nearest one that contains it, in the order of `modules`."""
        found = {}
        for path in filter(None, self.modules):
            parent = path.rpartition(".")[0]
            while parent and parent not in self.modules:
                parent = parent.rpartition(".")[0]
            found[path] = parent
        return found

    def depths(self) -> dict[str, int]:
        """How many of the others contain each module: 0 for the model itself."""
        parents, found = self.parents(), dict.fromkeys(self.modules, 0)
        for path in sorted(parents, key=lambda path: path.count(".")):
            found[path] = found[parents[path]] + 1
        return found

    def nodes_of(self, module: Module) -> int:
        """Its nodes in the graph that ships, or before optimization in the exported one."""
        return module.shipped_nodes if self.shipped else module.nodes

    def with_children(self) -> dict[str, Module]:
        """The modules with the sums of theirs and of all that they contain."""
        parents = self.parents()
        sums = {path: [module.parameters, module.nodes, module.shipped_nodes] for path, module in self.modules.items()}
        for path in sorted(parents, key=lambda path: -path.count(".")):
            for place, value in enumerate(sums[path]):
                sums[parents[path]][place] += value
        return {
            path: Module(
                class_name=self.modules[path].class_name, parameters=parameters, nodes=nodes, shipped_nodes=shipped
            )
            for path, (parameters, nodes, shipped) in sums.items()
        }

    def facts(self) -> dict[str, Any]:
        """It as plain JSON. `modules` and `shipped_modules` count the nodes of those that have any."""
        facts = {
            "strategy": self.strategy,
            "nodes": self.exported.nodes,
            "tagged_nodes": self.exported.tagged_nodes,
            "tagged_share": self.exported.share,
            "tags": dict(self.exported.tags),
            "modules": {path: module.nodes for path, module in sorted(self.modules.items()) if module.nodes},
            "classes": {path: module.class_name for path, module in self.modules.items()},
            "parameters": {path: module.parameters for path, module in self.modules.items() if module.parameters},
            "module_types": self.module_types(),
        }
        if self.shipped:
            facts |= {
                "shipped_nodes": self.shipped.nodes,
                "shipped_tagged_nodes": self.shipped.tagged_nodes,
                "shipped_tags": dict(self.shipped.tags),
                "shipped_modules": {path: module.shipped_nodes for path, module in self.modules.items()
                                    if module.shipped_nodes},
            }  # fmt: skip
        return facts

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Hierarchy:
        """What `facts` gave, also from reports that know less: they count the nodes of modules, whose tags are the
        exporter's. Raises PackageError when they are something else.
        """
        try:
            return _decoded(facts)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PackageError(f"the module hierarchy is damaged: {error!r}", hint="build the package again") from error


def _decoded(facts: Mapping[str, Any]) -> Hierarchy:
    columns = [facts.get(key, {}) for key in ("classes", "parameters", "modules", "shipped_modules")]
    classes, parameters, nodes, shipped = columns
    paths = dict.fromkeys(path for column in columns for path in column)
    if paths and "" not in paths:
        paths = {"": None, **paths}
    tagged = _number(facts.get("tagged_nodes", 0))
    after = None
    if "shipped_modules" in facts:
        after = _coverage(facts["shipped_nodes"], facts["shipped_tagged_nodes"], facts["shipped_tags"])
    return Hierarchy(
        strategy=str(facts.get("strategy", "unknown")),
        exported=_coverage(facts.get("nodes", 0), tagged, facts.get("tags", {"exporter": tagged} if tagged else {})),
        modules={
            path: Module(
                class_name=str(classes.get(path, "")),
                parameters=_number(parameters.get(path, 0)),
                nodes=_number(nodes.get(path, 0)),
                shipped_nodes=_number(shipped.get(path, 0)),
            )
            for path in paths
        },
        shipped=after,
    )


def _coverage(nodes: Any, tagged: Any, tags: Mapping[str, Any]) -> Coverage:
    return Coverage(
        nodes=_number(nodes),
        tagged_nodes=_number(tagged),
        tags={source: _number(count) for source, count in tags.items()},
    )


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no number of nodes")
    return value


def summary(hierarchies: Mapping[str, Hierarchy]) -> dict[str, Any]:
    """What a package's `config.json` says of its graphs, by name: the strategy, how many nodes of the file that ships
    have a tag, the number of modules of each class, and the tree with class, nodes and parameters of each module.
    """
    return {"format": FORMAT, "graphs": {name: _summary(hierarchy) for name, hierarchy in hierarchies.items()}}


def _summary(hierarchy: Hierarchy) -> dict[str, Any]:
    coverage = hierarchy.shipped or hierarchy.exported
    return {
        "strategy": hierarchy.strategy,
        "coverage": {"nodes": coverage.nodes, "tagged_nodes": coverage.tagged_nodes, "share": coverage.share},
        "module_types": hierarchy.module_types(),
        "tree": {
            path: {
                "class": module.class_name,
                "nodes": hierarchy.nodes_of(module),
                "parameters": module.parameters,
            }
            for path, module in hierarchy.modules.items()
        },
    }
