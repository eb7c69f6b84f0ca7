"""Defects in where a model runs: another provider than the one that was asked for."""

from __future__ import annotations

from defects.defect import Defect

DEFECTS = (
    Defect(
        name="the provider takes none of the nodes, and the CPU runs them",
        group="providers",
        model="bert",
        plant=lambda build: None,
        stage="placement",
        providers=("AzureExecutionProvider",),
        check="placement",
        message=r"MatMul x 16 \(first: node_MatMul_\d+\) on CPUExecutionProvider",
        optimum="always on the CPU provider",
    ),
    Defect(
        name="the provider's name is misspelled",
        group="providers",
        model="bert",
        plant=lambda build: None,
        stage="placement",
        providers=("CudaExecutionProvider",),
        check="HostError",
        message=r"there is no provider 'CudaExecutionProvider': did you mean 'cuda'\?",
        optimum="always on the CPU provider",
    ),
)
