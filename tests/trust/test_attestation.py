"""The bill of materials and the statement are what their specifications want, and say what is in the package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2  # type: ignore[import-untyped]

from modelbuild.attestation import bill_of_materials, statement
from modelbuild.manifest import Manifest, read_manifest
from modelbuild.model_spec import HubSource, InitSource, ModuleSource, PackageSource, PathSource
from modelbuild.sources import _origin

_DIGEST, _REVISION = "ab" * 32, "cd" * 20


@pytest.fixture
def manifest(package: Path) -> Manifest:
    """That of a package that was made from a checkpoint."""
    return replace(
        read_manifest(package),
        source=_origin(HubSource(kind="hub", repository="me/tiny", revision=_REVISION))
        | {"files": {"model.safetensors": _DIGEST}},
        tools={
            "modelbuild": "0.1.0",
            "python": "3.11.7",
            "numpy": "2.4.6",
            "onnxruntime": "1.31.1",
            "torch": "2.13.0+cpu",
        },
    )


def references(value: Any) -> Iterator[str]:
    """Every `bom-ref` in a document."""
    if isinstance(value, dict):
        yield from [value["bom-ref"]] if "bom-ref" in value else []
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)


def test_the_bill_is_valid_and_names_files_source_runtime_and_tools(manifest: Manifest) -> None:
    text = bill_of_materials(manifest)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["type"] == "machine-learning-model"
    components = {item["name"]: item for item in bill["components"]}
    files = {name for name, item in components.items() if item["type"] == "file"}
    assert files == manifest.files.keys()
    for name, record in manifest.files.items():
        assert components[name]["hashes"] == [{"alg": "SHA-256", "content": record.sha256}]
    source = components["me/tiny"]
    assert (source["version"], source["components"][0]["name"]) == (_REVISION, "model.safetensors")
    assert source["purl"] == f"pkg:huggingface/me/tiny@{_REVISION}"
    assert {name for name, item in components.items() if item["type"] == "library"} == {"numpy", "onnxruntime"}
    tools = bill["metadata"]["tools"]["components"]
    assert {item["name"]: item["version"] for item in tools} == manifest.tools
    assert {item["name"]: item.get("purl") for item in tools}["torch"] == "pkg:pypi/torch@2.13.0%2Bcpu"
    found = list(references(bill))
    assert len(found) == len(set(found)) > len(manifest.files)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (PackageSource(kind="package", package="gt_tiny", folder="model"), "gt_tiny"),
        (PathSource(kind="path", path="/data/mine"), "tiny"),
        (ModuleSource(kind="module", path="/data/net.py", factory="make", example_inputs="inputs"), "net.py"),
        (InitSource(kind="init", architecture="BertModel", config={}), None),
    ],
)
def test_what_it_was_made_from_has_the_name_that_it_is_known_by(
    source: PackageSource | PathSource | ModuleSource | InitSource, name: str | None, manifest: Manifest
) -> None:
    bill = json.loads(bill_of_materials(replace(manifest, source=_origin(source))))
    models = [item["name"] for item in bill["components"] if item["type"] == "machine-learning-model"]
    assert models == ([name] if name else [])
    said = {item["name"]: item["value"] for item in bill["metadata"]["component"]["properties"]}
    assert said.get("modelbuild:source:architecture") == (None if name else "BertModel")


def test_whatever_it_was_made_from_is_in_both_with_its_digest(manifest: Manifest) -> None:
    """A module's files and weights, and a graph that was exported elsewhere with its data."""
    source = {"kind": "module", "main": "1" * 64, "weights": "2" * 64, "graph": "3" * 64, "files": {"a.py": "4" * 64}}
    wanted = {"main": "1" * 64, "weights": "2" * 64, "graph": "3" * 64, "a.py": "4" * 64}
    made = replace(manifest, source=source)
    (component,) = [item for item in json.loads(bill_of_materials(made))["components"] if item["bom-ref"] == "source"]
    assert {part["name"]: part["hashes"][0]["content"] for part in component["components"]} == wanted
    materials = json.loads(statement(made))["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {item["name"]: item["digest"]["sha256"] for item in materials if "digest" in item} == wanted


def test_the_statement_is_valid_and_about_every_file(manifest: Manifest) -> None:
    found = json.loads(statement(manifest))
    parsed = json_format.ParseDict(found, statement_pb2.Statement())
    assert {item.name: dict(item.digest) for item in parsed.subject} == {
        name: {"sha256": record.sha256} for name, record in manifest.files.items()
    }
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    definition = found["predicate"]["buildDefinition"]
    assert {"name": "model.safetensors", "digest": {"sha256": _DIGEST}} in definition["resolvedDependencies"]
    assert {"uri": "pkg:pypi/torch@2.13.0%2Bcpu"} in definition["resolvedDependencies"]
    assert found["predicate"]["runDetails"]["builder"]["id"]


def test_the_same_build_gives_the_same_documents(manifest: Manifest) -> None:
    assert bill_of_materials(manifest) == bill_of_materials(manifest)
    assert statement(manifest) == statement(manifest)
    other = replace(manifest, files=dict(list(manifest.files.items())[1:]))
    assert (
        json.loads(bill_of_materials(other))["serialNumber"] != json.loads(bill_of_materials(manifest))["serialNumber"]
    )
