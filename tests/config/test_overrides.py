from __future__ import annotations

from pathlib import Path

import pytest

from modelbuild.config.overrides import prepare
from modelbuild.errors import ConfigError


def lines(*overrides: str, workspace: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        prepare(overrides, workspace)
    return caught.value.lines()


@pytest.mark.parametrize(
    ("given", "prepared"),
    [
        ("opset=17", "opset='17'"),
        ("opset='17'", "opset='17'"),
        ('opset="17"', "opset='17'"),
        ("++opset=17", "++opset='17'"),
        ("opset=17,18", "opset='17','18'"),
        ("opset= 17 , 18", "opset='17','18'"),
        ("opset=choice(17,18)", "opset='17','18'"),
        ("opset=sort(18,17)", "opset='17','18'"),
        ("opset=range(17,19)", "opset='17','18'"),
        ("opset=glob(1*)", "opset='17','18'"),
        ("model=bert,minilm", "model=bert,minilm"),
    ],
)
def test_a_number_is_the_name_of_a_choice_however_it_is_written(given: str, prepared: str, workspace: Path) -> None:
    assert prepare([given], workspace) == [prepared]


def test_a_choice_with_a_space_or_a_quote_in_its_name_stays_one_word(workspace: Path) -> None:
    (workspace / "conf" / "model").mkdir(parents=True)
    (workspace / "conf" / "model" / "it's mine.yaml").touch()
    prepared = prepare(['model="it\'s mine"'], workspace)
    assert prepared == ["model='it\\'s mine'"]
    assert prepare(prepared, workspace) == prepared


@pytest.mark.parametrize(
    ("given", "prepared"),
    [
        ("session.intra_op_num_threads=3", "++session.intra_op_num_threads=3"),
        ("model.source.config.hidden_size=8", "++model.source.config.hidden_size=8"),
        ("model.source.seed=1,2", "++model.source.seed=1,2"),
        ("+model.source.config.hidden_size=8", "+model.source.config.hidden_size=8"),
        ("~session.allow_spinning", "~session.allow_spinning"),
        ("~model", "~model"),
        ("out=folder", "out=folder"),
        ("debug=true", "debug=true"),
    ],
)
def test_a_known_key_can_be_set_where_the_file_of_the_choice_lacks_it(
    given: str, prepared: str, workspace: Path
) -> None:
    assert prepare([given], workspace) == [prepared]


@pytest.mark.parametrize("own", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=x"])
def test_what_is_hydras_own_is_left_to_hydra(own: str, workspace: Path) -> None:
    assert prepare([own], workspace) == [own]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("opest=17", "there is no key 'opest': overrides: did you mean 'opset'?"),
        ("+opest=17", "there is no key 'opest': overrides: did you mean 'opset'?"),
        ("++opest=17", "there is no key 'opest': overrides: did you mean 'opset'?"),
        ("modle=bert", "there is no key 'modle': overrides: did you mean 'model'?"),
        ("model=minlm", "there is no model=minlm: overrides: did you mean 'minilm'?"),
        ("model=bert,brt", "there is no model=brt: overrides: did you mean 'bert'?"),
        ("build=bert-tinny", "there is no build=bert-tinny: overrides: did you mean 'bert-tiny'?"),
        ("opset=99", "there is no opset=99: overrides: choose one of 17, 18, 20, 21, 23, auto"),
        ("opset=abc", "there is no opset=abc: overrides: choose one of 17, 18, 20, 21, 23, auto"),
        ("opset=null", "there is no opset=null: overrides: choose one of 17, 18, 20, 21, 23, auto"),
        ("opset=range(18,20)", "there is no opset=19: overrides: choose one of 17, 18, 20, 21, 23, auto"),
        (
            "opset=interval(17,18)",
            "there is no opset=interval(17,18): overrides: choose one of 17, 18, 20, 21, 23, auto",
        ),
        ("opset=glob(9*)", "there is no opset=glob(9*): overrides: choose one of 17, 18, 20, 21, 23, auto"),
        (
            "session.intra_op_num_thread=3",
            "there is no key 'session.intra_op_num_thread': overrides: did you mean 'session.intra_op_num_threads'?",
        ),
        ("+model._target_=os.system", "there is no key 'model._target_': overrides: did you mean 'model.name'?"),
    ],
)
def test_a_typo_is_one_line_with_a_suggestion(given: str, line: str, workspace: Path) -> None:
    assert lines(given, workspace=workspace) == [f"error[CFG]: {line}"]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("model.source.path=/a b/ü(1)", "quote the value: 'model.source.path=\"/a b/ü(1)\"'"),
        ("opset=17,", "quote the value: 'opset=\"17,\"'"),
        ("plan", "write key=value"),
    ],
)
def test_what_cannot_be_parsed_is_one_line_that_says_how_to_write_it(given: str, hint: str, workspace: Path) -> None:
    assert lines(given, workspace=workspace) == [f"error[CFG]: not an override: '{given}': {hint}"]


def test_all_problems_are_shown_at_once_in_the_order_they_were_given(workspace: Path) -> None:
    found = lines("opest=17", "model=brt", "opset=18", "session.spin=1", "x", "task=fill-maks", workspace=workspace)
    assert [line.split(": ")[1] for line in found] == [
        "there is no key 'opest'",
        "there is no model=brt",
        "there is no key 'session.spin'",
        "not an override",
        "there is no task=fill-maks",
    ]


def test_a_choice_that_only_the_workspace_has_is_known_and_suggested(workspace: Path) -> None:
    (workspace / "conf" / "model").mkdir(parents=True)
    (workspace / "conf" / "model" / "mine.yaml").touch()
    assert prepare(["model=mine,bert"], workspace) == ["model=mine,bert"]
    assert lines("model=mnie", workspace=workspace) == [
        "error[CFG]: there is no model=mnie: overrides: did you mean 'mine'?"
    ]


@pytest.mark.parametrize(
    ("name", "meant"), [("gpu", "cuda"), ("trt", "tensorrt"), ("CudaExecutionProvider", "cuda"), ("cdua", "cuda")]
)
def test_a_provider_that_is_called_otherwise_gets_its_name(name: str, meant: str, workspace: Path) -> None:
    assert lines(f"providers={name}", workspace=workspace) == [
        f"error[CFG]: there is no providers={name}: overrides: did you mean '{meant}'?"
    ]
