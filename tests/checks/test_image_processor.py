"""The image processor against graph and original: every fault has a name."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from families.image_checkpoints import save_checkpoint
from tiny_classifier import edit, failed, model_in

from modelbuild.checks import config_parts, image_processor
from modelbuild.checks.subject import Subject
from modelbuild.families.split import components_of
from modelbuild.graph import GraphFacts
from modelbuild.precision_spec import Fp32Precision
from modelbuild.reference import load_reference
from modelbuild.report import write_report
from modelbuild.signature import Signature, TensorSpec
from modelbuild.spec import Opset, Providers, Session, Sidecar, Validation
from modelbuild.stage_spec import SidecarSpec, ValidateSpec
from modelbuild.stages import sidecar
from modelbuild.tasks import TASKS, TaskName

CHECKS = {"image processor present", "image processor channels", "image processor size", "image processor parity"}
FILE = "preprocessor_config.json"


def _subject(source: Path, out: Path, task: TaskName) -> Subject:
    """The model in `source` with its sidecar files in `out`, and a graph that takes what it takes."""
    model = model_in(source)
    made = sidecar.run(SidecarSpec(model=model, task=task, sidecar=Sidecar(kind="auto")), {"source": source}, out)
    write_report(made, out / "report.json")
    reference = load_reference(model, TASKS[task], source)
    (component,) = components_of(reference, TASKS[task])
    inputs = tuple(component.interface.expected(value) for value in component.interface.inputs)
    outputs = (TensorSpec(name="logits", dtype="float32", shape=("batch", 5)),)
    return Subject(
        spec=ValidateSpec(
            model=model, task=task, opset=Opset(version=20), precision=Fp32Precision(kind="fp32"),
            providers=Providers(order=("cpu",)), session=Session(), validation=Validation(kind="quick"),
        ),
        task=TASKS[task],
        model_file=out / "model.onnx",
        exported_file=out / "model.onnx",
        exported_facts={},
        graph=GraphFacts(
            signature=Signature(inputs=inputs, outputs=outputs),
            opsets={"": 20}, ir_version=10, operators={}, tagged_nodes=0,
        ),
        sidecar=out,
        source=source,
        reference=reference,
        component=component,
        limits={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A ViT of five classes. Not to be changed."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("sidecar")
    save_checkpoint(source, "vit")
    return _subject(source, out, "image-classification")


@pytest.fixture
def subject(made: Subject, tmp_path: Path) -> Subject:
    """The same, with a copy of its sidecar files, to be changed."""
    shutil.copytree(made.sidecar, tmp_path / "sidecar")
    return replace(made, sidecar=tmp_path / "sidecar")


def _faults(subject: Subject) -> dict[str, str]:
    return failed(list(image_processor.examine(subject)))


def test_the_processor_that_the_stage_copied_passes_every_check(made: Subject) -> None:
    checks = list(image_processor.examine(made))
    assert {check.name for check in checks} == CHECKS
    assert not failed(checks)


def test_nothing_is_checked_where_nothing_was_asked_for(subject: Subject) -> None:
    edit(subject.sidecar / "report.json", facts={"status": "off"})
    assert not list(image_processor.examine(subject))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (None, "preprocessor_config.json is missing"),
        ('{"size": ', "preprocessor_config.json: Expecting value"),
        ("[]", "preprocessor_config.json is [], no object"),
        ('{"image_processor_type": "Sharpener"}', "the image processor cannot be read"),
    ],
)
def test_a_processor_that_does_not_open_is_one_fault(text: str | None, where: str, subject: Subject) -> None:
    path = subject.sidecar / FILE
    path.unlink() if text is None else path.write_text(text)
    faults = _faults(subject)
    assert faults.keys() == {"image processor present"}
    assert where in faults["image processor present"]


def test_means_of_other_channels_are_found(subject: Subject) -> None:
    edit(subject.sidecar / FILE, image_mean=[0.5], image_std=[0.5])
    faults = _faults(subject)
    assert faults.keys() == {"image processor channels"}
    assert "image_mean: [0.5] is for 1 channels, the graph takes 3" in faults["image processor channels"]


@pytest.mark.parametrize(
    ("changes", "checks", "where"),
    [
        ({"size": {"height": 32, "width": 48}}, {"size", "parity"}, "becomes 32x48, the graph takes 32x32"),
        ({"do_resize": False}, {"size", "parity"}, "seeded 640x480 becomes 480x640"),
        ({"image_mean": [0.4, 0.5, 0.5]}, {"parity"}, "seeded 64x64: 3x32x32 from"),
        ({"resample": 0}, {"parity"}, "on average"),
        ({"do_rescale": False}, {"parity"}, "the original's is 3x32x32 from -0.88"),
    ],
)  # fmt: skip
def test_a_processor_that_makes_something_else_is_found(
    changes: dict[str, Any], checks: set[str], where: str, subject: Subject
) -> None:
    edit(subject.sidecar / FILE, **changes)
    faults = _faults(subject)
    assert faults.keys() == {f"image processor {name}" for name in checks}
    assert where in "; ".join(faults.values())


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        ({"format": 2}, "golden_image.json has format 2, which is newer than 1"),
        ({"images": [{"image": "x"}]}, "golden_image.json is damaged"),
        ({"images": []}, "golden_image.json is not what the original's image processor makes of its images"),
    ],
)
def test_golden_images_that_are_not_the_originals_are_found(
    damage: dict[str, Any], where: str, subject: Subject
) -> None:
    edit(subject.sidecar / "golden_image.json", **damage)
    assert where in _faults(subject)["image processor parity"]


def test_golden_images_that_are_missing_are_found(subject: Subject) -> None:
    (subject.sidecar / "golden_image.json").unlink()
    assert _faults(subject) == {"image processor parity": "golden_image.json is missing"}


def test_sizes_of_images_that_the_graph_does_not_take_are_found(made: Subject) -> None:
    assert not list(config_parts.sizes_of_images(made, {"image_size": 32, "num_channels": 3}))
    assert not list(config_parts.sizes_of_images(made, {"image_size": [32, 32]}))
    found = list(config_parts.sizes_of_images(made, {"image_size": 64, "num_channels": 1}))
    assert found == [
        "config.json num_channels: 1, the graph takes 3",
        "config.json image_size: 64, the graph takes 32x32",
    ]


def test_parts_of_a_config_that_are_not_the_originals_are_found(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    save_checkpoint(source, "clip", "Model")
    subject = _subject(source, out, "zero-shot-image-classification")
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert not list(config_parts.sizes_of_parts(subject, config))
    config["text_config"]["eos_token_id"] = 5
    del config["vision_config"]["patch_size"]
    assert sorted(config_parts.sizes_of_parts(subject, config)) == [
        "config.json text_config.eos_token_id: 5, the original's is 3",
        "config.json vision_config.patch_size: 32, the original's is 8",
    ]
    config["text_config"]["num_attention_heads"] = "many"
    assert list(config_parts.sizes_of_parts(subject, config))
