from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from user_modules import FORWARD, HEAD, component_of, loaded, located, source_of, write_module, write_net

from modelbuild.errors import ExportError
from modelbuild.reference import load_reference
from modelbuild.tasks import TASKS

MAKE = """
def make(width=4, **rest):
    return Net(width)
"""


def test_a_module_is_what_the_factory_gives_in_eval_mode_and_fp32(tmp_path: Path) -> None:
    path = write_module(tmp_path, HEAD + FORWARD, MAKE, "def half():\n    return Net().half().train()\n")
    made = loaded(source_of(path, factory="make", arguments={"width": 3})).model
    assert (type(made).__name__, made.linear.weight.shape, made.training) == ("Net", (3, 4), False)
    assert loaded(source_of(path, factory="half")).model.linear.weight.dtype == torch.float32


def test_weights_that_a_module_makes_itself_follow_from_the_seed(tmp_path: Path) -> None:
    random = "def make():\n    import random\n    import numpy as np\n    net = Net()\n    with torch.no_grad():\n"
    random += "        net.linear.bias += random.random() + float(np.random.random())\n    return net\n"
    path = write_module(tmp_path, HEAD + FORWARD, random)
    state = torch.random.get_rng_state()
    first, again, other = (loaded(source_of(path, factory="make", seed=seed)).model for seed in (0, 0, 1))
    assert torch.equal(first.linear.weight, again.linear.weight)
    assert torch.equal(first.linear.bias, again.linear.bias)
    assert not torch.equal(first.linear.weight, other.linear.weight)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_files_beside_it_are_imported_in_functions_too_and_nothing_is_written_there(tmp_path: Path) -> None:
    forward = (
        "\n    def forward(self, features):\n        from parts.tail import twice\n        return twice(features)\n"
    )
    write_module(tmp_path, "import layers\n", HEAD + forward)
    write_module(tmp_path, "", name="layers.py")
    write_module(tmp_path, "def twice(x):\n    return 2 * x\n", name="parts/tail.py")
    component = component_of(source_of(tmp_path / "mine.py"))
    ones = np.ones((1, 2, 4), dtype=np.float32)
    assert np.array_equal(component.run({"features": ones})["output"], 2 * ones)
    assert not list(tmp_path.rglob("__pycache__"))


def test_two_modules_with_files_of_the_same_names_have_each_their_own(tmp_path: Path) -> None:
    found = []
    for name in ("first", "second"):
        path = write_module(tmp_path / name, "from layers import NAME\n", HEAD + FORWARD)
        write_module(tmp_path / name, f"NAME = '{name}'\n", name="layers.py")
        module = loaded(source_of(path))
        found.append(sys.modules[type(module.model).__module__].NAME)
    assert found == ["first", "second"]


def test_a_module_in_a_package_may_import_with_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path, "", name="dotted_package/__init__.py")
    write_module(tmp_path, "WIDTH = 5\n", name="dotted_package/sizes.py")
    write_module(tmp_path, "from .sizes import WIDTH\n", HEAD + FORWARD, name="dotted_package/net.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = source_of(None, import_path="dotted_package.net")
    assert sys.modules[type(loaded(source).model).__module__].WIDTH == 5


def test_a_library_in_the_folder_of_an_import_path_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, "", name="own_linked/__init__.py")
    write_module(tmp_path, "import numpy\nfrom own_linked import plain\n", HEAD + FORWARD, name="own_linked/net.py")
    write_module(tmp_path, "", name="own_linked/plain.py")
    (tmp_path / "numpy").symlink_to(Path(np.__file__).parent)
    monkeypatch.syspath_prepend(str(tmp_path))
    plain = importlib.import_module("own_linked.plain")
    module = loaded(source_of(None, import_path="own_linked.net"))
    code = sys.modules[type(module.model).__module__]
    assert sys.modules["numpy"] is np is code.numpy
    assert sys.modules["own_linked.plain"] is plain is code.plain


def test_a_file_that_changed_since_it_was_found_is_not_run(tmp_path: Path) -> None:
    source = source_of(write_net(tmp_path))
    found = located(source)
    model = found.subset(source, weights=True, sidecars=False)
    write_module(tmp_path, "raise SystemExit('run')\n")
    with pytest.raises(ExportError, match=r"mine\.py changed while it was being built"):
        load_reference(model, TASKS["custom"], tmp_path)


BAD = {
    "it imports what is not there": (
        "import not_installed_at_all\n",
        r"it cannot be imported: ModuleNotFoundError: .*'not_installed_at_all' \(mine\.py line 1\): .*: install what",
    ),
    "it imports with a dot": (
        "from .layers import Layer\n",
        r"it cannot be imported: ImportError: attempted relative import .* model\.source\.import_path",
    ),
    "it fails": ("x = 1\ny = x / 0\n", r"it cannot be imported: ZeroDivisionError: .* \(mine\.py line 2\)"),
    "it ends the process": ("import sys\nsys.exit(3)\n", r"it cannot be imported: SystemExit: 3 \(mine\.py line 2\)"),
    "no factory": (
        "class Nets:\n    pass\n",
        r"there is no function or class 'Net': .*mine\.py: did you mean 'Nets'\?",
    ),
    "another factory": ("def make():\n    pass\n", r"no function or class 'Net': .*: it has make$"),
    "the factory raises": (
        "def Net():\n    raise ValueError('no width')\n",
        r"Net\(\) raised ValueError: no width \(mine\.py line 2\): .*mine\.py: correct it, or model\.source\.arguments",
    ),
    "the factory takes no such argument": (
        "def Net(width):\n    pass\n",
        r"Net\(\) raised TypeError: Net\(\) missing 1",
    ),
    "the factory gives no module": ("def Net():\n    return {}\n", r"Net gives a dict and no torch\.nn\.Module"),
    "the factory gives a class": (
        "import torch\ndef Net():\n    return torch.nn.Linear\n",
        r"Net gives the class Linear and no torch\.nn\.Module",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_code_that_gives_no_module_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    text, message = BAD[case]
    with pytest.raises(ExportError, match=message) as caught:
        loaded(source_of(write_module(tmp_path, text)))
    assert len(caught.value.lines()) == 1
    assert "\n" not in caught.value.lines()[0]


def save(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    """Weights of a `Net`, changed."""
    tensors = {"linear.weight": torch.full((4, 4), 0.5), "linear.bias": torch.zeros(4)}
    change(tensors)
    save_file(tensors, folder / "net.safetensors")
    return folder / "net.safetensors"


def test_weights_are_those_of_the_file(tmp_path: Path) -> None:
    weights = save(tmp_path, lambda tensors: None)
    module = loaded(source_of(write_net(tmp_path), weights=str(weights)))
    assert torch.equal(module.model.linear.weight, torch.full((4, 4), 0.5))


def test_a_tied_weight_is_saved_once(tmp_path: Path) -> None:
    tied = "def make():\n    net = Net()\n    net.other = net.linear\n    return net\n"
    weights = save(tmp_path, lambda tensors: None)
    module = loaded(source_of(write_module(tmp_path, HEAD + FORWARD, tied), factory="make", weights=str(weights)))
    assert torch.equal(module.model.other.weight, torch.full((4, 4), 0.5))


def test_a_tied_weight_may_be_saved_twice_and_is_refused_where_the_two_differ(tmp_path: Path) -> None:
    tied = "def make():\n    net = Net()\n    net.other = net.linear\n    return net\n"
    path = write_module(tmp_path, HEAD + FORWARD, tied)

    def both(value: float) -> Path:
        return save(
            tmp_path, lambda t: t.update({"other.weight": torch.full((4, 4), value), "other.bias": torch.zeros(4)})
        )

    module = loaded(source_of(path, factory="make", weights=str(both(0.5))))
    assert torch.equal(module.model.linear.weight, torch.full((4, 4), 0.5))
    with pytest.raises(
        ExportError, match=r"linear\.weight and other\.weight are one tensor of the module, and the file"
    ):
        loaded(source_of(path, factory="make", weights=str(both(0.25))))


def test_a_state_that_is_no_tensor_is_not_missed_among_the_weights(tmp_path: Path) -> None:
    extra = "    def get_extra_state(self):\n        return {'step': 3}\n"
    path = write_module(tmp_path, HEAD + FORWARD + extra)
    module = loaded(source_of(path, weights=str(save(tmp_path, lambda tensors: None))))
    assert torch.equal(module.model.linear.weight, torch.full((4, 4), 0.5))


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize(
    ("made", "name"), [("Net().to('meta')", r"linear\.weight, linear\.bias"), ("nn.LazyLinear(4)", "weight, bias")]
)
def test_a_module_without_values_is_refused_by_the_names_that_have_none(
    made: str, name: str, weights: bool, tmp_path: Path
) -> None:
    path = write_module(tmp_path, HEAD + FORWARD, f"def make():\n    return {made}\n")
    given = {"weights": str(save(tmp_path, lambda tensors: None))} if weights else {}
    with pytest.raises(
        ExportError, match=rf"{name} of \w+ have no values: made on the device 'meta', or lazily: .*mine"
    ):
        loaded(source_of(path, factory="make", **given))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("linear.bias"), r"do not fit Net: there is no linear\.bias: .*net\.safetensors: save model"),
        (lambda t: t.update(extra=torch.zeros(1)), r"there is extra, which Net has no place for"),
        (
            lambda t: t.update({"linear.biass": t.pop("linear.bias")}),
            r"there is no linear\.bias and linear\.biass, which Net has no place for: .* called linear\.biass there",
        ),
        (
            lambda t: t.update({"linear.bias": torch.zeros(5)}),
            r"linear\.bias has shape \(5,\) and not \(4,\): .*: correct model\.source\.arguments",
        ),
        (lambda t: t["linear.bias"].fill_(float("nan")), r"tensor linear\.bias contains 4 NaN values"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    change: Callable[[dict[str, torch.Tensor]], object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        loaded(source_of(write_net(tmp_path), weights=str(save(tmp_path, change))))


def test_example_inputs_say_dtypes_sizes_and_bounds(tmp_path: Path) -> None:
    example = "def example():\n    return {'features': torch.linspace(0, 1, 40).reshape(2, 5, 4)}\n"
    source = source_of(
        write_module(tmp_path, HEAD + FORWARD, example),
        inputs={},
        example_inputs="example",
        dynamic_axes={"features": {0: "batch", 1: "sequence"}},
    )
    declared = loaded(source).inputs["features"]
    assert (declared.dtype, declared.shape, declared.between) == ("float32", ("batch", "sequence", 4), (0.0, 1.0))


@pytest.mark.parametrize(
    ("example", "axes", "message"),
    [
        ("return [torch.zeros(1)]", {}, r"example must give a dict of tensors, and gives a list"),
        ("return {'features': 1}", {}, r"example must give a dict of tensors, and gives a dict"),
        ("return {'features': torch.zeros(1, 1, 4)}", {"feature": {0: "batch"}}, r"no input 'feature': .*'features'\?"),
        (
            "return {'features': torch.zeros(1, 1, 4)}",
            {"features": {3: "batch"}},
            r"features has 3 axes, and no axis 3",
        ),
        (
            "return {'features': torch.zeros(1, dtype=torch.float64)}",
            {},
            r"features is float64: .*: give one of float32",
        ),
        ("return {1: torch.zeros(1)}", {}, r"example must give a dict of tensors, and gives a dict with the key 1"),
        ("return {'features': torch.zeros(1, 0, 4)}", {}, r"axis 1 of features has no size, and no name in"),
        ("return {'features': torch.tensor([float('nan')])}", {}, r"features has numbers that are NaN or infinite"),
        ("return {'features': torch.tensor([1.0, -torch.inf])}", {}, r"features has numbers that are NaN or infinite"),
        ("return {'features': torch.tensor([2**63 - 1])}", {}, r"features has numbers beyond 9007199254740992"),
        ("return {'features': torch.zeros(1, device='meta')}", {}, r"features has no numbers"),
        ("raise KeyError('x')", {}, r"example\(\) raised KeyError: 'x' \(mine\.py line 14\): .*: correct it$"),
    ],
)
def test_example_inputs_that_are_none_are_refused(
    example: str, axes: dict[str, dict[int, str]], message: str, tmp_path: Path
) -> None:
    path = write_module(tmp_path, HEAD + FORWARD, f"def example():\n    {example}\n")
    with pytest.raises(ExportError, match=message) as caught:
        loaded(source_of(path, inputs={}, example_inputs="example", dynamic_axes=axes))
    assert len(caught.value.lines()) == 1
