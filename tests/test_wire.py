"""Messages with arrays: openpi's form byte by byte, round trips, and bytes that a stranger made up."""

import math
import struct
import tracemalloc

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from openpi_peer import pack as their_pack
from openpi_peer import unpack as their_unpack

from v2w_gym.wire import WireError
from v2w_gym.wire.arrays import pack, unpack
from v2w_gym.wire.structure import Limits

FEW, MANY = 200, 10_000
QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)

dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.byte_string_dtypes(endianness="?", min_len=1, max_len=5),
    hnp.unicode_string_dtypes(endianness="?", min_len=1, max_len=5),
    hnp.datetime64_dtypes(endianness="?"),
    hnp.timedelta64_dtypes(endianness="?"),
)
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
turned = arrays.map(lambda array: array.T[..., ::-1] if array.ndim else array)  # not contiguous
scalars = hnp.scalar_dtypes().filter(lambda d: d.kind in "biuf").flatmap(hnp.from_dtype)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
plain = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), texts, st.binary(max_size=8)
)
values = st.recursive(
    st.one_of(plain, arrays, turned, scalars),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(texts | st.binary(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def alike(one: object, other: object) -> bool:
    """Equal in kind, dtype, shape and every byte (NaN included)."""
    if isinstance(one, np.ndarray):
        same = isinstance(other, np.ndarray) and (one.dtype, one.shape) == (other.dtype, other.shape)
        return same and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(alike(one[k], other[k]) for k in one)
        )
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, np.float64):
        one = float(one)  # to msgpack they are the same
    same_kind = type(one) is type(other)
    return same_kind and (one == other or (isinstance(one, float | np.floating) and math.isnan(one)))


def sound(value: object) -> None:
    """Every part can be used: printed, written into, packed again."""
    if isinstance(value, np.ndarray):
        assert value.flags.writeable
        value.tolist()
    elif isinstance(value, dict):
        [sound(v) for v in value.values()]
    elif isinstance(value, list):
        [sound(v) for v in value]
    repr(value)


def refuses_or_reads(data: bytes) -> None:
    refusal = None
    try:
        sound(unpack(data))
    except WireError as error:
        refusal = str(error)
    assert refusal is None or 10 < len(refusal) < 600


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A true message with bytes changed, cut out, doubled or put in."""
    data = bytearray(pack(draw(values)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 6))
        data[at : at + cut] = draw(st.binary(max_size=6))
    return bytes(data)


@st.composite
def lying_arrays(draw: st.DrawFn) -> bytes:
    """Array maps whose fields do not fit together."""
    fields = {
        b"__ndarray__": draw(st.just(True) | plain),
        b"data": draw(st.binary(max_size=64) | plain),
        b"dtype": draw(
            st.sampled_from(["<f4", "|b1", "<U2", "O", "V8", "<c8", "f4,f4", "(9,)f4", "S0"]) | texts
        ),
        b"shape": draw(st.lists(st.integers(-2, 2**63) | plain, max_size=40) | plain),
    }
    if draw(st.booleans()):
        del fields[draw(st.sampled_from(sorted(fields)))]
        fields |= draw(st.dictionaries(st.just(b"__npgeneric__") | texts, plain, max_size=1))
    return msgpack.packb(fields)


junk = st.one_of(spoilt(), st.binary(max_size=200), lying_arrays())


@settings(max_examples=FEW // 4, deadline=None, suppress_health_check=QUIET)
@given(values)
def test_a_value_comes_back(value):
    assert alike(value, unpack(pack(value)))


@settings(max_examples=FEW, deadline=None, suppress_health_check=QUIET)
@given(junk)
def test_bytes_of_any_kind_are_read_or_refused(data):
    refuses_or_reads(data)


@pytest.mark.slow
@settings(max_examples=MANY, deadline=None, suppress_health_check=QUIET)
@given(values)
def test_ten_thousand_values_come_back(value):
    assert alike(value, unpack(pack(value)))


@pytest.mark.slow
@settings(max_examples=MANY, deadline=None, suppress_health_check=QUIET)
@given(junk)
def test_ten_thousand_times_bytes_of_any_kind(data):
    refuses_or_reads(data)


OURS = {
    "observation/image": np.arange(48, dtype=np.uint8).reshape(4, 4, 3),
    "observation/state": np.linspace(0, 1, 7, dtype=np.float32)[::-1],
    "prompt": "close the drawer",
    "scale": np.float32(0.5),
    "nothing": np.zeros((0, 3), ">i2"),
}


def test_openpi_reads_what_we_write_and_we_what_it_writes():
    assert pack(OURS) == their_pack(OURS)  # byte by byte
    assert alike(unpack(their_pack(OURS)), unpack(pack(OURS)))
    theirs = their_unpack(pack(OURS))
    assert all(np.array_equal(theirs[key], OURS[key]) for key in OURS)


def test_the_bytes_of_an_array():
    """Spelled out once, so that a change of both sides at a time is noticed."""
    expected = (
        b"\x84" + b"\xc4\x0b__ndarray__\xc3" + b"\xc4\x04data\xc4\x04\x01\x00\x02\x00"
        b"\xc4\x05dtype\xa3<u2" + b"\xc4\x05shape\x91\x02"
    )
    assert pack(np.array([1, 2], "<u2")) == expected


def test_texts_and_bytes_are_not_confused():
    """Text keys that read like the marks are a user's own map; bytes stay bytes, and text stays text."""
    own = {"__ndarray__": True, "data": b"\x00", "dtype": "|u1", "shape": [1]}
    assert unpack(pack(own)) == own
    assert unpack(pack([b"a", "a"])) == [b"a", "a"]
    with pytest.raises(WireError, match="must be bytes, got str"):
        unpack("a text frame")


def test_unpacked_arrays_can_be_written_into():
    array = unpack(pack(np.zeros(3)))
    array[0] = 1
    assert array.tolist() == [1, 0, 0]


REFUSED = {
    "objects": np.array([object()]),
    "fields": np.zeros(2, [("a", "f4")]),
    "void": np.void(b"1234"),
    "complex": np.array([1j]),
    "a complex scalar": np.complex64(1j),
    "masked": np.ma.masked_array([1, 2], mask=[0, 1]),
    "dates alone": np.datetime64("2026-01-01"),
    "long doubles alone": np.longdouble(1),
    "sets": {1, 2},
    "large numbers": 2**64,
    "keys that are numbers": {1: 2},
    "half a letter": "\ud800",
    "functions": print,
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_sent(value):
    with pytest.raises(WireError):
        pack({"inside": [value]})


def test_lists_within_themselves_are_refused():
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(WireError):
        pack(endless)
    deep: object = 0
    for _ in range(33):
        deep = [deep]
    with pytest.raises(WireError, match="deeper than 32"):
        pack(deep)


def bomb(shape: list[int], dtype: str = "<f4", data: bytes = b"") -> bytes:
    return msgpack.packb({b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape})


BOMBS = {
    "a list that claims 4e9 items": b"\xdd\xff\xff\xff\xff",
    "such lists within each other": b"\xdd\x03\xff\xff\xff" * 1000,
    "a map that claims 4e9 items": b"\xdf\xff\xff\xff\xff",
    "a text that claims 4 GB": b"\xdb\xff\xff\xff\xff",
    "bytes that claim 4 GB": b"\xc6\xff\xff\xff\xff",
    "100,000 lists deep": b"\x91" * 100_000,
    "a million empty maps": b"\xdd" + struct.pack(">I", 10**6) + b"\x80" * 10**6,
    "an array of 1e18 numbers": bomb([10**9, 10**9]),
    "no numbers, but huge sides": bomb([0, 2**62, 2**62]),
    "sides whose product overflows to 0": bomb([2**32, 2**32, 4]),
    "more sides than numpy has": bomb([1] * 65, data=b"0123"),
    "items without bytes": bomb([10**12], "|S0"),
    "texts of a gigabyte": bomb([0], "<U268435456"),
    "an extension": b"\xc7\xff\x05" + b"x" * 255,
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_bombs_cost_nothing(data):
    unpack(pack(0))  # imports
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            unpack(data)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_limits_are_settings():
    limits = Limits(size=100, depth=2, items=5)
    for value, why in ((b"0" * 101, "bytes"), ([[[1]]], "deeper"), (list(range(6)), "values")):
        for attempt in (lambda v=value: pack(v, limits), lambda v=value: unpack(pack(v), limits)):
            with pytest.raises(WireError, match=why):
                attempt()
