"""Multimodal sentiment models in PyTorch; knows nothing of Ray, Optuna or experiment files."""
