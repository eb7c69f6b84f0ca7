"""Why a model that was run does not agree with PyTorch: where it first departs, and what brought that in."""
