"""What learns by gradients. These modules import PyTorch, the extra `qft`: import them inside functions only."""
