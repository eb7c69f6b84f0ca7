from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest
from onnx import helper

from modelbuild.errors import PackageError
from modelbuild.node_tags import CLASSES_KEY, SCOPES_KEY, SOURCE_KEY, Tag, load_graph, read_names, read_tag, write_tag


def node(scopes: str | None, classes: str | None = None) -> onnx.NodeProto:
    made = helper.make_node("Add", ["a", "b"], ["c"], name="sum")
    for key, value in ((SCOPES_KEY, scopes), (CLASSES_KEY, classes), ("other", "kept")):
        if value is not None:
            made.metadata_props.add(key=key, value=value)
    return made


def properties(made: onnx.NodeProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in made.metadata_props}


@pytest.mark.parametrize(
    ("scopes", "module"),
    [
        ("['', 'bert', 'bert.encoder.layer.0', 'linear_3']", "bert.encoder.layer.0"),
        ("['', 'relu']", ""),
        ("['relu']", ""),
        ("['', '_empty_nn_module_stack_from_metadata_hook', 'add']", ""),
        ("['_empty_nn_module_stack_from_metadata_hook', 'add']", ""),
        ("['', 'layer@1', 'add']", "layer"),
        ("['', 'it\\'s, odd', 'add']", "it's, odd"),
    ],
)
def test_the_innermost_module_is_the_one_before_the_operator(scopes: str, module: str) -> None:
    tag = read_tag(node(scopes))
    assert tag is not None
    assert tag.module == module


@pytest.mark.parametrize(
    "scopes",
    [
        None, "", "[]", "encoder/layer", "['', 'encoder'", "['', 3, 'add']", "('', 'a', 'add')", "{'': 'a'}", "None",
        "__import__('os').getcwd()", "[" * 9000, "'" + "a" * (1 << 17) + "'", "['\x00', \"",
    ],
)  # fmt: skip
def test_what_is_not_a_list_of_names_is_no_tag(scopes: str | None) -> None:
    assert read_tag(node(scopes)) is None


@pytest.mark.parametrize("classes", [None, "", "nonsense", "['a.B']", "['a.B', 3, 'aten.add']"])
def test_classes_that_do_not_belong_to_the_scopes_are_not_known(classes: str | None) -> None:
    tag = read_tag(node("['', 'encoder', 'add']", classes))
    assert tag == Tag(scopes=("", "encoder"))
    assert tag.class_name == ""


def test_a_tag_is_read_as_it_was_written_and_other_metadata_stays() -> None:
    made = node("malformed", "malformed")
    tag = Tag(scopes=("", "encoder"), classes=("a.Model", "a.b.Encoder"), source="inferred")
    write_tag(made, tag)
    assert read_tag(made) == tag
    assert tag.class_name == "Encoder"
    assert properties(made) == {
        "other": "kept",
        SCOPES_KEY: "['', 'encoder', 'sum']",
        CLASSES_KEY: "['a.Model', 'a.b.Encoder', 'Add']",
        SOURCE_KEY: "inferred",
    }


def test_a_tag_of_the_exporter_has_no_source_of_ours() -> None:
    made = node(None)
    write_tag(made, Tag(scopes=("",)))
    assert properties(made) == {"other": "kept", SCOPES_KEY: "['', 'sum']"}


@pytest.mark.parametrize("content", [b"", b"not a protobuf"])
def test_what_is_not_an_onnx_file_is_a_package_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(PackageError, match="not an ONNX file"):
        load_graph(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[]", ()),
        ("['']", ("",)),
        ("['', 'encoder.layer.0', 'add']", ("", "encoder.layer.0", "add")),
        ('["it\'s", \'say "hi"\']', ("it's", 'say "hi"')),
        (str(["a\\b", 'it\'s "odd"', "ü", "a, b", "[]"]), ("a\\b", 'it\'s "odd"', "ü", "a, b", "[]")),
        ("['a','b']", ("a", "b")),
        ("['a' 'b']", ()),
        ("['a', 3]", ()),
        ("'a'", ()),
        ("['a'", ()),
        ("['a\\']", ()),
        ("[" + "'a', " * 20_000 + "'a']", ()),
    ],
)
def test_a_list_of_names_is_read_as_python_writes_it(text: str, names: tuple[str, ...]) -> None:
    assert read_names(text) == names


def test_tags_are_read_in_several_threads_at_once() -> None:
    """Python's own parser fails there now and then, with a SystemError."""
    text = str([f"encoder.layer.{number}" for number in range(200)])
    with ThreadPoolExecutor(4) as threads:
        assert {len(found) for found in threads.map(lambda _: read_names(text), range(400))} == {200}
