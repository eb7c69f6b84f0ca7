from __future__ import annotations

from typing import get_args

import onnxruntime as ort
import pytest

from modelbuild.providers import CPU, PROVIDERS, needs, option_keys, ort_name
from modelbuild.spec import ProviderName, Providers


def test_the_table_has_the_providers_of_the_spec_by_their_own_names() -> None:
    assert tuple(PROVIDERS) == get_args(ProviderName)
    assert [provider.name for provider in PROVIDERS.values()] == list(PROVIDERS)


def test_every_provider_has_options_of_its_own_in_the_spec() -> None:
    for name in get_args(ProviderName):
        assert isinstance(Providers(order=(name,)).options(name), dict)


def test_the_options_of_the_spec_are_options_that_a_provider_has() -> None:
    for name in get_args(ProviderName):
        fields = type(getattr(Providers(order=(name,)), name)).model_fields
        assert set(fields) <= PROVIDERS[name].options


def test_options_and_needs_are_found_by_both_names_and_unknown_for_others() -> None:
    assert option_keys("cuda") == option_keys("CUDAExecutionProvider") == PROVIDERS["cuda"].options
    assert option_keys("cpu") == frozenset()
    assert option_keys("OpenVINOExecutionProvider") is None
    assert needs("TensorrtExecutionProvider") == PROVIDERS["tensorrt"].needs
    assert needs("OpenVINOExecutionProvider") == "another build of ONNX Runtime"


def test_onnxruntime_knows_every_provider() -> None:
    assert {provider.ort_name for provider in PROVIDERS.values()} <= set(ort.get_all_providers())


def test_every_provider_says_what_it_needs() -> None:
    assert all(provider.needs for provider in PROVIDERS.values())
    assert "onnxruntime-gpu" in PROVIDERS["cuda"].needs
    assert "TensorRT" in PROVIDERS["tensorrt"].needs


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("cpu", "CPUExecutionProvider"),
        ("cuda", "CUDAExecutionProvider"),
        ("tensorrt", "TensorrtExecutionProvider"),
        ("CUDAExecutionProvider", "CUDAExecutionProvider"),
        ("other", "other"),
    ],
)
def test_ort_name_takes_both_names(name: str, full: str) -> None:
    assert ort_name(name) == full


def test_the_cpu_provider_is_always_there() -> None:
    assert CPU in ort.get_available_providers()
