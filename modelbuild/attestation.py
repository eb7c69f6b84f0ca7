"""Where a package came from, for programs that look for it: a CycloneDX bill of materials, and an in-toto statement.

The statement is unsigned and made by whoever built: that is SLSA Build level 1, and claims no more. Both documents have
no time in them, so that the same build gives the same files.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from modelbuild.digest import sha256_json
from modelbuild.manifest import Manifest

BOM_FILE, STATEMENT_FILE = "bom.cdx.json", "provenance.intoto.json"
_RUNTIME = ("numpy", "onnxruntime", "onnxruntime-gpu")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BUILD_TYPE, _BUILDER = "urn:modelbuild:build:1", "urn:modelbuild:builder:local"


def bill_of_materials(manifest: Manifest) -> str:
    """CycloneDX 1.6 as JSON: the model, its files, what it was made from, what it needs to run, and the tools that made
    it.
    """
    made_from = _made_from(manifest)
    model = Component(
        name=manifest.name,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="model",
        properties=[
            Property(name="modelbuild:task", value=manifest.task),
            Property(name="modelbuild:verified", value=str(manifest.verified).lower()),
            *([] if made_from else _said(manifest.source)),
        ],
    )
    needed = [_library(name, version) for name, version in manifest.tools.items() if name in _RUNTIME]
    files = [
        Component(name=name, type=ComponentType.FILE, bom_ref=f"file:{name}", hashes=[_sha256(record.sha256)])
        for name, record in manifest.files.items()
    ]
    bom = Bom(
        serial_number=uuid.uuid5(
            uuid.NAMESPACE_OID, sha256_json({name: record.sha256 for name, record in manifest.files.items()})
        ),
        metadata=BomMetaData(
            component=model,
            tools=ToolRepository(
                components=[_library(name, version, "tool:") for name, version in manifest.tools.items()]
            ),
        ),
        components=[*files, *made_from, *needed],
    )
    bom.register_dependency(model, [*made_from, *files, *needed])
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
    data = json.loads(text)
    del data["metadata"]["timestamp"]
    return json.dumps(data, indent=2) + "\n"


def _made_from(manifest: Manifest) -> list[Component]:
    """What the model was made from, with the digests of its files; nothing where its weights are drawn from a seed."""
    source = manifest.source
    if source.get("kind") == "init":
        return []
    named = [str(source[key]) for key in ("repository", "package", "import_path", "file") if source.get(key)]
    revision = str(source.get("revision") or "") or None
    parts = [
        Component(name=name, type=ComponentType.FILE, bom_ref=f"source:{name}", hashes=[_sha256(digest)])
        for name, digest in _materials(source).items()
    ]
    return [
        Component(
            name=named[0] if named else manifest.name,
            version=revision,
            type=ComponentType.MACHINE_LEARNING_MODEL,
            bom_ref="source",
            purl=_hub(named[0], revision) if source.get("kind") == "hub" else None,
            components=parts,
            properties=_said(source),
        )
    ]


def _hub(repository: str, revision: str | None) -> PackageURL:
    owner, _, name = repository.rpartition("/")
    return PackageURL(type="huggingface", namespace=owner or None, name=name, version=revision)


def _said(source: Mapping[str, Any]) -> list[Property]:
    return [
        Property(name=f"modelbuild:source:{key}", value=str(value))
        for key, value in source.items()
        if isinstance(value, str | int)
    ]


def _materials(source: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of everything that the model was made from, by name: whatever in `source` is one."""
    found: dict[str, str] = {}
    for key, value in source.items():
        if isinstance(value, Mapping):
            found |= _materials(value)
        elif _SHA256.fullmatch(str(value)):
            found[str(key)] = str(value)
    return found


def _library(name: str, version: str, prefix: str = "") -> Component:
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{prefix}{name}@{version}",
        purl=_purl(name, version),
    )


def _purl(name: str, version: str) -> PackageURL | None:
    """Where a tool comes from; None for modelbuild itself, which need not be in any index."""
    if name == "modelbuild":
        return None
    return PackageURL(type="generic" if name == "python" else "pypi", name=name, version=version)


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def statement(manifest: Manifest) -> str:
    """An in-toto Statement v1 with the predicate SLSA Provenance v1 about every file that `manifest` names: all but the
    manifest, which has the digest of the statement, and the statement itself.
    """
    materials = [{"name": name, "digest": {"sha256": digest}} for name, digest in _materials(manifest.source).items()]
    tools = [{"uri": purl.to_string()} for name, version in manifest.tools.items() if (purl := _purl(name, version))]
    data = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": list(_subjects(manifest)),
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": _BUILD_TYPE,
                "externalParameters": {"build": manifest.build, "source": manifest.source},
                "internalParameters": {},
                "resolvedDependencies": [*materials, *tools],
            },
            "runDetails": {
                "builder": {"id": _BUILDER, "version": {"modelbuild": manifest.tools.get("modelbuild", "")}},
            },
        },
    }
    return json.dumps(data, indent=2) + "\n"


def _subjects(manifest: Manifest) -> Iterable[dict[str, Any]]:
    for name, record in manifest.files.items():
        yield {"name": name, "digest": {"sha256": record.sha256}}
