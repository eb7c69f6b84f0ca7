from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families.building import FAST, build
from families.opened import answers
from tiny_pipelines import tiny_pipeline

from modelbuild.checks.diffusers_files import examine
from modelbuild.checks.subject import Subject
from modelbuild.config.compose import compose
from modelbuild.diffusers_reference import load_folder, load_initialized
from modelbuild.digest import sha256_file
from modelbuild.errors import ConfigError, ExportError, InputError
from modelbuild.families.split import components_of
from modelbuild.graph import read_graph
from modelbuild.manifest import read_manifest
from modelbuild.model_spec import InitSource, PathSource
from modelbuild.report import Check, read_report
from modelbuild.resolve import resolve
from modelbuild.runtime import load
from modelbuild.sizes import typical_sizes
from modelbuild.sources import locate
from modelbuild.tasks import TASKS

GRAPHS = ["text_encoder", "unet", "vae_encoder", "vae_decoder"]
PROMPT, STEPS, GUIDANCE = "the cat and the car", 3, 5.0
# Images are from 0 to 1. Each of the steps may be off by what parity allows, and guidance makes it five times as much.
TOLERANCE = 1e-4
ASK = """
import torch
from optimum.onnxruntime import ORTDiffusionPipeline, ORTStableDiffusionPipeline
for name, kind in (("any", ORTDiffusionPipeline), ("stable", ORTStableDiffusionPipeline)):
    pipeline = kind.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    answers[f"{name} class"] = type(pipeline).__name__
    for size in ("native", "wide"):
        latents = torch.from_numpy(given[size])
        height, width = (2 * side for side in latents.shape[2:])
        answers[f"{name} {size}"] = pipeline(
            str(given["prompt"]), height=height, width=width, latents=latents, num_inference_steps=int(given["steps"]),
            guidance_scale=float(given["guidance"]), output_type="np",
        ).images
pixels = torch.from_numpy(given["pixels"])
answers["mean"] = pipeline.vae.encode(pixels).latent_dist.mean
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline with a tokenizer, as diffusers saves it."""
    folder = tmp_path_factory.mktemp("saved")
    tiny_pipeline(tmp_path_factory.mktemp("tokenizer")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def package(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It, built."""
    folder = tmp_path_factory.mktemp("build")
    return build(folder, "model=path", f"model.source.path={saved}", "model.name=sd", *FAST)


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    """A copy of the pipeline, to be spoiled."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def located(folder: Path) -> Any:
    return locate(PathSource(kind="path", path=str(folder)), sha256_file)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def images(scratch: Path, latents: dict[str, torch.Tensor]) -> dict[str, Any]:
    pipeline = tiny_pipeline(scratch)
    made = {}
    for name, latent in latents.items():
        height, width = (2 * side for side in latent.shape[2:])
        made[name] = pipeline(
            PROMPT, height=height, width=width, latents=latent, num_inference_steps=STEPS, guidance_scale=GUIDANCE,
            output_type="np",
        ).images  # fmt: skip
    return made


@pytest.mark.slow
def test_optimum_opens_the_package_and_makes_the_images_of_pytorch_at_any_size(
    saved: Path, package: Path, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(0)
    latents = {
        "native": torch.randn(1, 4, 8, 8, generator=generator),
        "wide": torch.randn(1, 4, 12, 20, generator=generator),
    }
    pixels = torch.rand(2, 3, 12, 20, generator=generator) * 2 - 1
    found = answers(
        ASK, package, tmp_path, prompt=PROMPT, steps=STEPS, guidance=GUIDANCE, pixels=pixels.numpy(),
        **{name: latent.numpy() for name, latent in latents.items()},
    )  # fmt: skip
    assert found["any class"] == found["stable class"] == "ORTStableDiffusionPipeline"
    for name, image in images(tmp_path, latents).items():
        assert image.std() > 0.05
        for kind in ("any", "stable"):
            np.testing.assert_allclose(found[f"{kind} {name}"], image, atol=TOLERANCE)
    with torch.inference_mode():
        mean = load_folder(saved, {})[0].vae.encode(pixels).latent_dist.mean
    np.testing.assert_allclose(found["mean"], mean, atol=1e-5)


@pytest.mark.slow
def test_the_package_has_four_graphs_with_optimums_names_and_everything_beside_them(package: Path) -> None:
    manifest = read_manifest(package)
    assert manifest.verified
    assert manifest.task == "text-to-image"
    assert list(manifest.graphs) == GRAPHS
    taken = {name: graph.signature.input_names() for name, graph in manifest.graphs.items()}
    given = {name: graph.signature.output_names() for name, graph in manifest.graphs.items()}
    assert taken == {
        "text_encoder": ("input_ids",), "unet": ("sample", "timestep", "encoder_hidden_states"),
        "vae_encoder": ("sample",), "vae_decoder": ("latent_sample",),
    }  # fmt: skip
    assert given == {
        "text_encoder": ("last_hidden_state", "pooler_output"), "unet": ("out_sample",),
        "vae_encoder": ("latent_parameters",), "vae_decoder": ("sample",),
    }  # fmt: skip
    there = {
        "model_index.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt",
        "tokenizer/golden_text.json", *(f"{name}/config.json" for name in GRAPHS),
    }  # fmt: skip
    assert there <= manifest.files.keys()
    assert "unet parity.out_sample" in manifest.validation["checks"]
    assert "tokenizer parity" in manifest.validation["checks"]


@pytest.mark.slow
def test_attention_of_every_graph_is_fused(package: Path) -> None:
    report = read_report(package.parent / "optimize" / "report.json")
    fused = {name: facts["attention_fusions"] for name, facts in report.facts["components"].items()}
    assert {name: line.partition(" layers")[0] for name, line in fused.items()} == {
        "text_encoder": "2 of 2", "unet": "4 of 4", "vae_encoder": "1 of 1", "vae_decoder": "1 of 1",
    }  # fmt: skip


@pytest.mark.slow
def test_the_runtime_runs_each_graph_and_refuses_a_height_between_the_steps(saved: Path, package: Path) -> None:
    model, original = load(package), load_folder(saved, {})[0]
    sample = np.random.default_rng(0).standard_normal((2, 4, 6, 10)).astype(np.float32)
    text = np.zeros((2, 77, 32), dtype=np.float32)
    inputs = {"sample": sample, "timestep": np.float32(17), "encoder_hidden_states": text}
    found = model.run(inputs, graph="unet")["out_sample"]
    with torch.inference_mode():
        expected = original.unet(torch.from_numpy(sample), torch.tensor(17.0), torch.from_numpy(text)).sample
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(InputError, match="height is 5, and must be a multiple of 2"):
        model.run(inputs | {"sample": sample[:, :, :5]}, graph="unet")
    with pytest.raises(InputError, match="sample_width is 15, and must be a multiple of 2"):
        model.run({"sample": np.zeros((1, 3, 16, 15), dtype=np.float32)}, graph="vae_encoder")


@pytest.mark.slow
def test_a_model_of_text_is_built_without_importing_diffusers() -> None:
    code = (
        "import sys, modelbuild.stages.export, modelbuild.stages.sidecar, modelbuild.stages.validate;"
        "import modelbuild.stages.benchmark, modelbuild.families.text, modelbuild.pipeline.driver;"
        "raise SystemExit('diffusers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def subject(package: Path, saved: Path) -> Subject:
    """What the checks of files look at."""
    reference = load_folder(saved, {})[0]
    task, folder = TASKS["text-to-image"], package.parent
    component = components_of(reference, task)[0]
    model_file = folder / "optimize" / component.file
    nothing: Any = None
    return Subject(
        spec=nothing, task=task, model_file=model_file, exported_file=model_file, exported_facts={},
        graph=read_graph(model_file), sidecar=folder / "sidecar", source=saved, reference=reference,
        component=component, limits={},
    )  # fmt: skip


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.where for check in checks if not check.passed}


SPOILED: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "another class": ("model_index.json", {"unet": ["diffusers", "UNet3D"]}, "index", "UNet2DConditionModel"),
    "no tokenizer": ("model_index.json", {"tokenizer": [None, None]}, "index", "and there is one"),
    "another schedule": (
        "scheduler/scheduler_config.json", {"beta_end": 0.5}, "scheduler config", "beta_end: 0.5, the original's is",
    ),
    "a key more": (
        "scheduler/scheduler_config.json", {"rescaled": 1}, "scheduler config", "rescaled: 1, the original has no such",
    ),
    "another scale": ("vae_decoder/config.json", {"scaling_factor": 1.0}, "vae_decoder config", "scaling_factor: 1.0"),
    "more channels": ("unet/config.json", {"in_channels": 9}, "config sizes", "the graph's sample has 4 on axis 1"),
    "another end": ("text_encoder/config.json", {"eos_token_id": 2}, "text_encoder config", "eos_token_id: 2"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", SPOILED)
def test_configs_that_are_not_the_originals_fail_their_check(
    fault: str, package: Path, saved: Path, tmp_path: Path
) -> None:
    name, values, check, where = SPOILED[fault]
    shutil.copytree(package.parent / "sidecar", tmp_path / "sidecar")
    shutil.copytree(package.parent / "optimize", tmp_path / "optimize")
    looked_at = subject(tmp_path / "package", saved)
    assert not failed(list(examine(looked_at)))
    change(tmp_path / "sidecar" / name, **values)
    assert where in failed(list(examine(looked_at)))[check]
    (tmp_path / "sidecar" / name).unlink()
    assert (
        "is missing"
        in failed(list(examine(looked_at)))[
            "index" if name == "model_index.json" else check.replace("config sizes", "unet config")
        ]
    )


def test_the_task_of_a_pipeline_is_told_by_its_index(saved: Path, tmp_path: Path) -> None:
    build_spec = compose(["model=path", f"model.source.path={saved}", "model.name=sd"], tmp_path).spec
    assert resolve(build_spec, sha256_file).task == "text-to-image"


INDEX: dict[str, tuple[dict[str, Any], str]] = {
    "code of its own": ({"unet": ["my_pipeline", "MyUNet"]}, "unet is my_pipeline.MyUNet, which may be code"),
    "an unknown class": ({"vae": ["diffusers", "AutoencoderTiny"]}, "vae is diffusers.AutoencoderTiny"),
    "an unknown part": ({"controlnet": ["diffusers", "ControlNetModel"]}, "no such part is known"),
    "a scheduler of its own": ({"scheduler": ["scheduling", "MyScheduler"]}, "scheduling.MyScheduler"),
    "no scheduler": ({"scheduler": [None, None]}, "no scheduler"),
    "a pipeline of its own": ({"_class_name": ["pipeline", "MyPipeline"]}, "cannot be built"),
    "SDXL": ({"_class_name": "StableDiffusionXLPipeline"}, "a StableDiffusionXLPipeline cannot be built"),
    "remote code": ({"auto_map": {"unet": "a--b"}}, "run code from elsewhere"),
}


@pytest.mark.parametrize("fault", INDEX)
def test_an_index_that_names_what_is_not_known_is_refused_before_anything_is_loaded(fault: str, copied: Path) -> None:
    values, message = INDEX[fault]
    change(copied / "model_index.json", **values)
    with pytest.raises(ExportError, match=message):
        located(copied)


def test_a_part_that_is_named_and_missing_is_refused(copied: Path) -> None:
    shutil.rmtree(copied / "vae")
    with pytest.raises(ExportError, match=r"vae/config\.json is missing, which model_index\.json names"):
        located(copied)


def test_a_part_of_another_class_than_the_index_says_is_refused(copied: Path) -> None:
    change(copied / "unet" / "config.json", _class_name="UNet2DModel")
    with pytest.raises(ExportError, match=r"unet/config\.json is of a UNet2DModel"):
        located(copied)


def test_pickled_weights_of_a_part_are_refused(copied: Path) -> None:
    (copied / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (copied / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(ExportError, match="only pickled weights"):
        located(copied)


def test_a_part_without_weights_is_refused(copied: Path) -> None:
    (copied / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ExportError, match=r"no weights: .*unet: expected diffusion_pytorch_model\.safetensors"):
        located(copied)


def test_weights_that_are_missing_are_never_made_up(copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = copied / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["conv_out.weight"]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ExportError, match=r"the checkpoint has no weights for conv_out\.weight"):
        load_folder(copied, {})


def test_weights_that_are_no_numbers_are_refused(copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = copied / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["decoder.conv_out.bias"][0] = torch.nan
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ExportError, match=r"decoder\.conv_out\.bias contains 1 NaN value"):
        load_folder(copied, {})


def test_a_scheduler_that_diffusers_has_not_is_refused(copied: Path) -> None:
    change(copied / "model_index.json", scheduler=["diffusers", "DDIMMScheduler"])
    change(copied / "scheduler" / "scheduler_config.json", _class_name="DDIMMScheduler")
    with pytest.raises(ExportError, match=r"no scheduler 'DDIMMScheduler'.*DDIMScheduler"):
        load_folder(copied, {})


def test_a_unet_that_takes_more_inputs_is_refused(tmp_path: Path) -> None:
    tiny_pipeline(tmp_path, num_class_embeds=3).save_pretrained(tmp_path / "model")
    with pytest.raises(ExportError, match="num_class_embeds takes more inputs"):
        components_of(load_folder(tmp_path / "model", {})[0], TASKS["text-to-image"])


def test_no_size_is_made_up_for_an_axis_that_only_outputs_have(tmp_path: Path) -> None:
    tiny_pipeline(tmp_path).save_pretrained(tmp_path / "model")
    for component in components_of(load_folder(tmp_path / "model", {})[0], TASKS["text-to-image"]):
        taken = {axis for value in component.interface.inputs for axis in value.shape if isinstance(axis, str)}
        assert set(typical_sizes(component.interface, batch=1, length=1)) == taken


def test_parts_that_do_not_fit_each_other_are_refused() -> None:
    source = InitSource(
        kind="init", architecture="StableDiffusionPipeline", config={"text_encoder": {"hidden_size": 64}}
    )
    with pytest.raises(ExportError, match="unet cross_attention_dim is 1280, and text_encoder hidden_size is 64"):
        load_initialized(
            source.model_copy(update={"config": {**source.config, "unet": {"block_out_channels": [32] * 4}}})
        )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"unett": {}}, "has no 'unett'.*did you mean 'unet'"),
        ({"unet": {"sample_sise": 8}}, "UNet2DConditionModel has no 'sample_sise'.*sample_size"),
        ({"vae": 3}, "vae must be a config"),
        ({"scheduler": {"_class_name": "NoScheduler"}}, "diffusers has no scheduler 'NoScheduler'"),
    ],
)
def test_a_config_of_a_pipeline_is_refused_where_a_part_has_no_such_key(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        load_initialized(InitSource(kind="init", architecture="StableDiffusionPipeline", config=config))


def test_a_pipeline_is_for_pipelines_tasks_alone(saved: Path, tmp_path: Path) -> None:
    words = ["model=path", f"model.source.path={saved}", "model.name=sd", "task=fill-mask"]
    with pytest.raises(ExportError, match="a pipeline, and fill-mask is for models"):
        resolve(compose(words, tmp_path).spec, sha256_file)


def test_a_model_of_text_is_not_for_text_to_image(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "text"
    shutil.copytree(saved / "text_encoder", folder)
    words = ["model=path", f"model.source.path={folder}", "model.name=clip", "task=text-to-image"]
    with pytest.raises(ExportError, match="a model, and text-to-image is for pipelines"):
        resolve(compose(words, tmp_path).spec, sha256_file)


def test_a_pipeline_without_a_tokenizer_is_refused_unless_its_sidecar_is_off(copied: Path, tmp_path: Path) -> None:
    shutil.rmtree(copied / "tokenizer")
    change(copied / "model_index.json", tokenizer=[None, None])
    words = ["model=path", f"model.source.path={copied}", "model.name=sd"]
    with pytest.raises(ExportError, match="no tokenizer files"):
        resolve(compose(words, tmp_path).spec, sha256_file)
    assert resolve(compose([*words, "sidecar=off"], tmp_path).spec, sha256_file).task == "text-to-image"


def test_exporters_of_one_graph_are_refused(saved: Path, tmp_path: Path) -> None:
    words = ["model=path", f"model.source.path={saved}", "model.name=sd", "exporter=optimum"]
    with pytest.raises((ExportError, ConfigError), match="exporter=optimum does not make the graphs for text-to-image"):
        build(tmp_path, *words, *FAST)
