"""Libraries of custom operators in the sessions that are opened, and in a package that is loaded."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper
from operator_library import DOMAIN, OPERATOR, SOURCE, compiled

import modelbuild
from modelbuild.candidates import ort_level, transformer
from modelbuild.diagnosis.tensors import OpenGraph
from modelbuild.errors import ConfigError, HostError, PackageError
from modelbuild.graph import read_graph
from modelbuild.interface import Interface
from modelbuild.manifest import FileRecord, GraphRecord, Manifest, read_manifest, write_manifest
from modelbuild.package_files import record_files
from modelbuild.runtime.custom_ops import known_operators, register
from modelbuild.runtime.load import load
from modelbuild.runtime.placement import node_placement
from modelbuild.runtime.session import ProviderChoice, SessionSettings, open_session
from modelbuild.samples import Batch

MODEL_FILE = "model.onnx"
NOTHING = Interface(inputs=(), outputs=(), axes=())
INPUTS = {"input_ids": np.array([[3, 9]]), "attention_mask": np.array([[1, 1]])}
CPU: list[ProviderChoice] = [("cpu", {})]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, not to be changed."""
    return compiled(tmp_path_factory.mktemp("library") / "libmine.so")


@pytest.fixture
def library(made: Path, tmp_path: Path) -> Path:
    """A library of one's own."""
    return Path(shutil.copy(made, tmp_path / "libmine.so"))


@pytest.fixture
def graph(model_file: Path) -> Path:
    """The tiny model, with the custom operator at its end."""
    return with_operator(model_file)


def with_operator(path: Path, domain: str = DOMAIN, operator: str = OPERATOR) -> Path:
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node(operator, ["before"], ["states"], name="own", domain=domain))
    model.opset_import.append(helper.make_opsetid(domain, 1))
    onnx.save(model, path)
    return path


@pytest.fixture
def own_package(graph: Path, library: Path, tmp_path: Path) -> Path:
    """A package of the tiny model with the custom operator, which brings its library along."""
    folder = tmp_path / "package"
    (folder / "custom_ops").mkdir(parents=True)
    shutil.copy(library, folder / "custom_ops")
    shutil.copy(graph, folder)
    arrays: dict[str, Any] = {f"model/input.{name}": array for name, array in INPUTS.items()}
    np.savez(folder / "golden.npz", **arrays | {"model/output.states": run(graph, library)})
    facts = read_graph(graph)
    record = GraphRecord(
        file=MODEL_FILE,
        signature=facts.signature,
        limits={},
        may_be_empty=(),
        sums={},
        opsets=facts.opsets,
        ir_version=facts.ir_version,
        oldest_onnxruntime=facts.oldest_onnxruntime(),
        hierarchy={},
    )
    manifest = Manifest(
        name="tiny",
        task="feature-extraction",
        verified=True,
        graphs={"model": record},
        providers=(("cpu", {}),),
        allow_fallback=False,
        session={"intra_op_num_threads": 1, "custom_ops": ["custom_ops/libmine.so"]},
        source={},
        build={},
        tools={},
        validation={},
        benchmark={},
        files=record_files(folder),
    )
    write_manifest(manifest, folder)
    return folder


def change_manifest(package: Path, **changes: Any) -> None:
    write_manifest(replace(read_manifest(package), **{"files": record_files(package)} | changes), package)


def settings(*libraries: Path, **others: Any) -> SessionSettings:
    return SessionSettings.from_mapping({"custom_ops": libraries, "intra_op_num_threads": 1} | others)


def run(model: Path, library: Path, inputs: Any = INPUTS) -> Any:
    return open_session(model, providers=CPU, settings=settings(library)).run(None, inputs)[0]


def refused(*libraries: Path | str) -> str:
    """The one line that a session with such libraries is refused with."""
    with pytest.raises((ConfigError, HostError)) as caught:
        register(ort.SessionOptions(), [str(path) for path in libraries])
    (line,) = caught.value.lines()
    return line


def test_the_operators_of_a_library_compute_what_they_say(graph: Path, library: Path) -> None:
    assert np.allclose(run(graph, library)[0, 0], [0.9661051, 0.9784351, 0.9866717, 0.9920], atol=1e-4)


def test_a_library_is_found_from_the_current_folder_and_nowhere_else(
    graph: Path, library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(library.parent)
    assert run(graph, Path("libmine.so")).shape == (1, 2, 4)
    monkeypatch.chdir("/")
    assert refused("libmine.so").startswith("error[CFG]: no such library of custom operators: /libmine.so: ")


def test_without_its_library_a_model_is_refused_with_the_operator_its_domain_and_the_key(graph: Path) -> None:
    with pytest.raises(PackageError) as caught:
        open_session(graph, providers=CPU, settings=SessionSettings())
    (line,) = caught.value.lines()
    assert line == (
        "error[PKG]: ONNX Runtime has no operator 'MyErf' of the domain 'my.ops': model.onnx: name the library that "
        "has it: session.custom_ops=[…]"
    )


def test_with_another_library_a_model_is_refused_and_the_library_is_named(model_file: Path, library: Path) -> None:
    graph = with_operator(model_file, operator="Other")
    with pytest.raises(PackageError, match=r"'Other' of the domain 'my\.ops', nor has libmine\.so: model\.onnx: name"):
        run(graph, library)


def test_whose_fault_it_is_is_asked_with_the_operators(graph: Path, library: Path) -> None:
    wrong = settings(library, config_entries={"session.intra_op_thread_affinities": "nonsense"}, intra_op_num_threads=3)
    with pytest.raises(HostError, match=r"on the CPU with default settings the model opens"):
        open_session(graph, providers=CPU, settings=wrong)


def test_placement_tells_where_a_custom_operator_runs(graph: Path, library: Path) -> None:
    placement = node_placement(graph, providers=CPU, settings=settings(library), inputs=[INPUTS])
    assert placement.nodes["CPUExecutionProvider"] >= 4
    assert placement.compute_off == 0


@pytest.mark.parametrize("candidate", ["basic", "extended", "transformer"])
def test_a_graph_with_a_custom_operator_is_optimized_and_stays_what_it_is(
    candidate: str, graph: Path, library: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if candidate == "transformer":
        facts = {"hierarchy": {"tagged_nodes": 1}, "architecture": {}}
        transformer.optimize(candidate, graph, facts, out / MODEL_FILE, frozenset(), [str(library)])
    else:
        ort_level.optimize(candidate, graph, {}, out / MODEL_FILE, frozenset(), [str(library)])
    assert read_graph(out / MODEL_FILE).operators[f"{DOMAIN}.{OPERATOR}"] == 1
    assert np.array_equal(run(out / MODEL_FILE, library), run(graph, library))


def test_a_diagnosis_sees_what_a_custom_operator_gives(graph: Path, library: Path) -> None:
    tensors = OpenGraph(graph, graph.parent, [str(library)]).tensors(
        Batch(kind="one", interface=NOTHING, inputs=INPUTS)
    )
    assert np.array_equal(tensors["states"], run(graph, library))
    assert not np.array_equal(tensors["states"], tensors["before"])


def opened_in(function: ast.FunctionDef) -> set[str]:
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}


def test_whatever_opens_a_session_registers_the_libraries_first() -> None:
    functions = {
        f"{path.stem}.{node.name}": opened_in(node)
        for path in Path(modelbuild.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef)
    }
    opening = {name: calls for name, calls in functions.items() if "InferenceSession" in calls}
    assert set(opening) == {
        "session.open_session",
        "session._cannot_open",
        "ort_level.save_optimized",
        "tensors.session_of",
        "inside.open_inside",
    }
    assert all({"register", "session_options"} & calls for calls in opening.values())


def test_onnxruntimes_own_operators_of_other_domains_are_known() -> None:
    assert {"com.microsoft.Attention", "com.microsoft.BiasGelu", "ai.onnx.ml.LabelEncoder"} < known_operators()
    assert not {"MatMul", f"{DOMAIN}.{OPERATOR}"} & known_operators()


def test_a_library_that_is_not_there_is_refused_with_the_nearest(library: Path) -> None:
    line = refused(library.with_name("libmin.so"))
    assert line.startswith("error[CFG]: no such library of custom operators: ")
    assert line.endswith(f"did you mean '{library}'?")


def test_a_folder_is_no_library(tmp_path: Path) -> None:
    assert refused(tmp_path).startswith("error[CFG]: a folder, where a library of custom operators is wanted: ")


@pytest.mark.parametrize("content", [b"", b"INPUT(libmine.so.1)\n", b"PK\x03\x04", b"\x7fELF"])
def test_what_is_no_shared_library_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "libtext.so").write_bytes(content)
    assert refused(tmp_path / "libtext.so") == (
        f"error[CFG]: not a shared library: {tmp_path / 'libtext.so'}: link it with -shared, from code with -fPIC"
    )


def test_an_object_file_is_no_shared_library(library: Path, tmp_path: Path) -> None:
    (tmp_path / "x.o").write_bytes(patched(library, 16, 1))
    assert refused(tmp_path / "x.o").startswith("error[CFG]: not a shared library: ")


def patched(library: Path, at: int, value: int) -> bytes:
    """The library with another number in its header."""
    content = bytearray(library.read_bytes())
    content[at : at + 2] = value.to_bytes(2, sys.byteorder)
    return bytes(content)


@pytest.mark.parametrize(("machine", "name"), [(8, "MIPS"), (22, "s390x"), (4711, "processor 4711")])
def test_a_library_for_another_processor_is_the_fault_of_this_machine(machine: int, name: str, library: Path) -> None:
    library.write_bytes(patched(library, 18, machine))
    line = refused(library)
    assert line.startswith(f"error[ENV]: the library is for {name} (64 bit), and this Python for ")
    assert "compile it for this machine" in line


def test_a_library_without_the_function_that_registers_is_refused(tmp_path: Path) -> None:
    line = refused(compiled(tmp_path / "libother.so", "int nothing;"))
    assert line.startswith("error[CFG]: the library has no function RegisterCustomOps: ")
    assert 'extern "C"' in line


def test_a_library_of_onnxruntime_itself_is_no_library_of_custom_operators() -> None:
    (shared,) = (Path(ort.__file__).parent / "capi").glob("libonnxruntime_providers_shared.so")
    assert refused(shared).startswith("error[CFG]: the library has no function RegisterCustomOps: ")


def test_a_library_that_needs_another_which_is_missing_says_which(tmp_path: Path) -> None:
    needed = compiled(tmp_path / "libneeded.so", "int needed(void) { return 1; }")
    source = SOURCE.replace(
        "static void destroy(void *kernel) {}", "int needed(); static void destroy(void *k) { needed(); }"
    )
    linked = compiled(tmp_path / "liblinked.so", source, links=needed)
    needed.unlink()
    line = refused(linked)
    assert line.startswith(f"error[ENV]: ONNX Runtime {ort.__version__} cannot load the library: {needed}: cannot open")
    assert "'ldd' shows" in line


def test_a_package_brings_its_library_along_and_runs_without_heavy_imports(own_package: Path, library: Path) -> None:
    library.unlink()
    script = (
        "import sys\nfrom modelbuild.runtime import load\n"
        "shape = load(sys.argv[1]).run({'input_ids': [[1]], 'attention_mask': [[1]]})['states'].shape\n"
        "assert shape == (1, 1, 4)\nassert not {'torch', 'onnx', 'transformers', 'pydantic'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(own_package)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    assert (finished.stdout, finished.stderr, finished.returncode) == ("", "", 0)


@pytest.mark.parametrize("verify", [True, False])
def test_a_library_that_was_changed_in_a_package_is_never_loaded(
    verify: bool, own_package: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "loaded"
    inside = own_package / "custom_ops" / "libmine.so"
    hook = f'#include <fcntl.h>\n__attribute__((constructor)) static void on(void) {{ creat("{trace}", 0600); }}\n'
    content = compiled(tmp_path / "evil.so", hook + SOURCE).read_bytes()
    size = max(len(content), inside.stat().st_size)
    inside.write_bytes(content.ljust(size, b"\0"))
    good = read_manifest(own_package)
    record = FileRecord(size_bytes=size, sha256=good.files["custom_ops/libmine.so"].sha256)
    change_manifest(own_package, files=dict(good.files) | {"custom_ops/libmine.so": record})
    with pytest.raises(PackageError, match=r"custom_ops/libmine.so has another content \(sha256\)"):
        load(own_package, verify=verify)
    assert not trace.exists()
    change_manifest(own_package)
    load(own_package, verify=verify)
    assert trace.exists()


@pytest.mark.parametrize(
    ("libraries", "message"),
    [
        (["/tmp/libmine.so"], "manifest.json is damaged: the library '/tmp/libmine.so' is not one of its files"),
        (["../libmine.so"], "the library '../libmine.so' is not one of its files"),
        (["custom_ops/libnone.so"], "the library 'custom_ops/libnone.so' is not one of its files"),
        ("custom_ops/libmine.so", "custom_ops is 'custom_ops/libmine.so': session: it is a list of paths"),
        ([3], r"custom_ops is \[3\]: session: it is a list"),
    ],
)
def test_a_package_loads_libraries_of_its_own_only(libraries: Any, message: str, own_package: Path) -> None:
    change_manifest(own_package, session={"custom_ops": libraries})
    with pytest.raises(PackageError, match=message):
        load(own_package)


def test_libraries_that_are_asked_for_replace_those_of_the_package(own_package: Path, tmp_path: Path) -> None:
    other = compiled(tmp_path / "libother.so", factor=2.0)
    with pytest.raises(PackageError, match="self-check failed: states differs by"):
        load(own_package, session={"custom_ops": [other]})
    inputs = {"input_ids": [[3]], "attention_mask": [[1]]}
    twice, once = (
        load(own_package, session=session, verify=False).run(inputs)["states"]
        for session in ({"custom_ops": [str(other)]}, {})
    )
    assert np.array_equal(twice, 2 * once)


def test_a_package_that_says_nothing_of_libraries_has_none(own_package: Path, model_file: Path) -> None:
    shutil.rmtree(own_package / "custom_ops")
    change_manifest(own_package, session={})
    with pytest.raises(
        PackageError, match="no operator 'MyErf' of the domain 'my\\.ops': model\\.onnx: name the library"
    ):
        load(own_package)
