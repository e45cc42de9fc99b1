"""The causal video-diffusion world model: ``init``, ``step`` and ``decode`` over a state that is a value."""
