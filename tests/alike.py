"""What counts as the same where the same episodes are computed in batches of different size."""

import numpy as np
import pytest


def assert_alike(ours, theirs):
    """The same types, keys and order; frames up to one grey level, probabilities up to 0.02."""
    assert isinstance(theirs, type(ours)) or isinstance(ours, type(theirs))  # e.g. an ordered dict and a dict
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key in ours:
            assert_alike(ours[key], theirs[key])
    elif isinstance(ours, list | tuple) or (isinstance(ours, np.ndarray) and ours.dtype == object):
        for mine, other in zip(ours, theirs, strict=True):
            assert_alike(mine, other)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype
        close = {"u": 1.0, "f": 0.02}.get(ours.dtype.kind, 0.0)
        np.testing.assert_allclose(ours.astype(float), theirs.astype(float), atol=close, rtol=0)
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, abs=0.02)
    else:
        assert ours == theirs
