"""Ways to run a network: float and integer onnxruntime, the numpy emulator, and the user's original ONNX."""
