"""Capture: a PyTorch module as a program of operators, and the program as an ONNX graph."""
