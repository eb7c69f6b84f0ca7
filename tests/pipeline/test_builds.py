"""A build is done once, whoever asks for it and however."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from processes import TINY, builds, dvc, run, stages_started, start

from modelbuild.runtime import load

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_build_ends_with_its_package_and_the_package_runs(built: Path) -> None:
    finished = run(*TINY, cwd=built)
    package = Path(finished.stdout.splitlines()[-1])
    ids = np.ones((2, 3), dtype=np.int64)
    outputs = load(package).run({"input_ids": ids, "attention_mask": ids, "token_type_ids": ids})
    assert outputs["last_hidden_state"].shape == (2, 3, 32)


def test_the_second_run_starts_no_stage_and_imports_neither_torch_nor_transformers(built: Path) -> None:
    before = stages_started(built)
    code = (
        "import sys; from modelbuild.cli import main; code = main(sys.argv[1:]);"
        "print({'torch', 'transformers', 'optimum', 'onnx'} & set(sys.modules)); raise SystemExit(code)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, *TINY], cwd=built, capture_output=True, text=True, check=True
    )
    assert finished.stdout.splitlines()[-1] == "set()"
    assert "nothing to do" in finished.stdout
    assert stages_started(built) == before


def test_back_to_an_earlier_opset_runs_nothing(built: Path) -> None:
    assert run(*TINY, "opset=17", cwd=built).returncode == 0
    started = stages_started(built)
    shutil.rmtree(next(folder for folder in builds(built) if "opset20" in folder.name))
    finished = run(*TINY, cwd=built)
    assert finished.returncode == 0, finished.stderr
    assert "restored export, sidecar, optimize, validate, benchmark, package" in finished.stdout
    assert stages_started(built)["export"] == 1 == started["export"] - 1


def test_another_session_validates_and_benchmarks_again_and_does_not_export(built: Path) -> None:
    finished = run(*TINY, "session=edge", cwd=built)
    assert "ran validate, benchmark, package; restored export, sidecar, optimize" in finished.stdout, finished.stderr


def test_a_sweep_over_two_opsets_and_two_sessions_exports_twice(built: Path) -> None:
    finished = run("-m", *TINY, "opset=18,20", "session=latency,edge", cwd=built)
    assert finished.returncode == 0, finished.stderr
    assert len(builds(built)) == 4
    assert all((folder / "package" / "manifest.json").is_file() for folder in builds(built))
    assert stages_started(built)["export"] == 2


def test_the_joblib_launcher_shares_one_export_between_jobs_at_once(tmp_path: Path) -> None:
    finished = run("-m", *TINY, "session=latency,edge", "hydra/launcher=joblib", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert len(builds(tmp_path)) == 2
    assert stages_started(tmp_path)["export"] == 1


def test_a_sweep_ends_with_8_when_a_job_fails_and_the_others_are_done(built: Path) -> None:
    sweep = "hydra.sweep.dir=sweeps/${now:%H}"
    finished = run("-m", *TINY, "model.source.config.hidden_size=32,33", sweep, cwd=built)
    assert finished.returncode == 8
    assert "error[EXP]: BertModel cannot be made for feature-extraction" in finished.stderr
    assert "error[SWP]: 1 of 2 jobs failed: 1: " in finished.stderr.splitlines()[-1]
    assert len([folder for folder in builds(built) if (folder / "package").is_dir()]) == 1


def test_the_same_build_twice_at_once_is_built_once(tmp_path: Path) -> None:
    both = [start(*TINY, cwd=tmp_path) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert set(stages_started(tmp_path).values()) == {1}


def test_two_builds_at_once_share_what_they_have_in_common(tmp_path: Path) -> None:
    both = [start(*TINY, f"session={session}", cwd=tmp_path) for session in ("latency", "edge")]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    started = stages_started(tmp_path)
    assert (started["export"], started["optimize"], started["validate"]) == (1, 1, 2)


def test_dvc_repro_runs_only_the_composition_after_an_ad_hoc_build_of_the_same(built: Path) -> None:
    shutil.copy(REPOSITORY / "dvc.yaml", built)
    (built / "params.yaml").write_text(yaml.safe_dump({"builds": {"tiny": list(TINY)}}), encoding="utf-8")
    first = dvc("repro", cwd=built)
    assert first.returncode == 0, first.stdout + first.stderr
    running = [line for line in first.stdout.splitlines() if line.startswith("Running stage")]
    assert running == ["Running stage 'compose@tiny':"]
    assert load(built / "artifacts" / "tiny" / "package").manifest.verified
    metrics = dvc("metrics", "show", cwd=built)
    assert "artifacts/tiny/validate/metrics.json" in metrics.stdout
    assert dvc("plots", "show", cwd=built).returncode == 0
    assert run("gc", cwd=built).returncode == 0
    again = dvc("repro", "--force", "--downstream", "package@tiny", cwd=built)
    assert again.returncode == 0, again.stdout + again.stderr


def test_plan_tells_what_a_sweep_would_run_and_runs_nothing(built: Path) -> None:
    before = stages_started(built), len(builds(built))
    finished = run("plan", "-m", *TINY, "opset=18,20", "session=latency,edge", cwd=built)
    assert finished.returncode == 0, finished.stderr
    lines = [line.split() for line in finished.stdout.splitlines()]
    exports = [words[1] for words in lines if words[0] == "export"]
    assert exports == ["run", "shared", "current", "cached"]
    assert (stages_started(built), len(builds(built))) == before


def test_why_names_the_key_that_changed(built: Path) -> None:
    finished = run("why", *TINY, "opset=17", cwd=built)
    assert "    key: opset.version 20 -> 17" in finished.stdout.splitlines(), finished.stderr


def test_a_corrupt_cache_is_noticed_and_built_again(built: Path) -> None:
    folder = builds(built)[0]
    original = (folder / "package" / "model.onnx").read_bytes()
    for cached in (built / ".dvc" / "cache" / "files").rglob("*"):
        if cached.is_file() and cached.read_bytes() == original:
            cached.chmod(0o644)
            cached.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
            cached.chmod(0o444)  # which DVC takes for proof that the content is right
    shutil.rmtree(folder)
    finished = run(*TINY, cwd=built)
    assert finished.returncode == 0, finished.stderr
    assert "the cache was corrupt" in finished.stderr
    assert (builds(built)[0] / "package" / "model.onnx").read_bytes() == original


def test_out_publishes_the_package_and_never_replaces_something_else(built: Path) -> None:
    assert run(*TINY, "out=dist/tiny", cwd=built).returncode == 0
    assert load(built / "dist" / "tiny").manifest.name == "bert-tiny"
    assert run(*TINY, "out=dist/tiny", cwd=built).returncode == 0
    (built / "mine").mkdir()
    (built / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    refused = run(*TINY, "out=mine", cwd=built)
    assert refused.returncode == 7
    assert "it exists and is not a package" in refused.stderr
    assert [path.name for path in (built / "mine").iterdir()] == ["thesis.txt"]


def test_gc_keeps_what_ad_hoc_builds_refer_to_and_deletes_the_rest(built: Path) -> None:
    assert run(*TINY, "opset=17", cwd=built).returncode == 0
    shutil.rmtree(next(folder for folder in builds(built) if "opset17" in folder.name))
    dry = run("gc", "--dry", cwd=built)
    real = run("gc", cwd=built)
    assert dry.stdout.replace("would delete", "deleted") == real.stdout
    assert not real.stdout.startswith("deleted 0 objects")
    shutil.rmtree(builds(built)[0])
    finished = run(*TINY, cwd=built)
    assert finished.returncode == 0, finished.stderr
    assert "ran " not in finished.stdout
    collected = run(*TINY, "opset=17", cwd=built)
    assert collected.returncode == 0, collected.stderr
