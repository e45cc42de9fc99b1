"""What counts as the same where the same episodes are computed in batches of different size."""

import numpy as np
import pytest


def assert_same(ours, theirs):
    """Equal to the last bit, types, keys and their order included."""
    assert_alike(ours, theirs, exact=True)


def assert_alike(ours, theirs, exact=False):
    """The same types, keys and order; frames up to one grey level, probabilities up to 0.02, unless exact."""
    related = isinstance(theirs, type(ours)) or isinstance(
        ours, type(theirs)
    )  # as an ordered dict and a dict
    assert type(ours) is type(theirs) if exact else related
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key in ours:
            assert_alike(ours[key], theirs[key], exact)
    elif isinstance(ours, list | tuple) or (isinstance(ours, np.ndarray) and ours.dtype == object):
        for mine, other in zip(ours, theirs, strict=True):
            assert_alike(mine, other, exact)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype
        close = 0.0 if exact else {"u": 1.0, "f": 0.02}.get(ours.dtype.kind, 0.0)
        np.testing.assert_allclose(ours.astype(float), theirs.astype(float), atol=close, rtol=0)
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=0.0, abs=0.0 if exact else 0.02)
    else:
        assert ours == theirs
