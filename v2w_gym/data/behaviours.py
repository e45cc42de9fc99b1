"""What drives recorded episodes: every way to do a task well, badly, late or not at all.

A world model that has only seen experts closes the drawer whatever the policy does, so most of these fail. A
behaviour is a closure ``(frame_index, state) -> action``; all its randomness is drawn from the generator that
made it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Behaviour = Callable[[int, Vector], Vector]
Maker = Callable[[np.random.Generator, Behaviour], Behaviour]

_HAND, _OBJECT = slice(0, 3), slice(4, 7)
_CLOSED_Y = 0.16  # drawer handle to its goal when fully open, metres; the success flag turns near 0.038 left


def expert(task: str) -> Behaviour:
    """Meta-World's own scripted expert for ``task``."""
    import warnings

    from metaworld.policies import ENV_POLICY_MAP

    policy = ENV_POLICY_MAP[task]()

    def act(_: int, state: Vector) -> Vector:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "constants may be too high": they are clipped here
            return np.clip(np.asarray(policy.get_action(state), dtype=np.float64), -1.0, 1.0)

    return act


def noisy(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """Gaussian noise of one size for the whole episode on every action."""
    sigma = rng.uniform(0.1, 2.0)
    return lambda t, state: base(t, state) + rng.normal(0.0, sigma, 4)


def slow(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """The same directions at a fraction of the speed."""
    gain = rng.uniform(0.1, 0.95)
    return lambda t, state: gain * base(t, state)


def biased(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """A constant drift on one axis or on all."""
    bias = rng.normal(0.0, 0.5, 4)
    if rng.random() < 0.5:
        bias *= np.eye(4)[rng.integers(3)] * 1.5
    return lambda t, state: base(t, state) + bias


def misaimed(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """Believes that the drawer stands elsewhere."""
    error = rng.normal(0.0, rng.uniform(0.02, 0.15), 3) * (1.0, 1.0, 0.5)

    def act(t: int, state: Vector) -> Vector:
        believed = state.copy()
        believed[_OBJECT] += error
        return base(t, believed)

    return act


def erratic(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """Now and then a random action, held for a few frames."""
    probability, longest = rng.uniform(0.05, 0.6), int(rng.integers(1, 6))
    held: list[Vector] = []

    def act(t: int, state: Vector) -> Vector:
        if not held and rng.random() < probability:
            held.extend([rng.uniform(-1.0, 1.0, 4)] * int(rng.integers(1, longest + 1)))
        return held.pop() if held else base(t, state)

    return act


def sluggish(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """Acts on old observations and changes its mind slowly."""
    delay, inertia = int(rng.integers(0, 6)), rng.uniform(0.0, 0.9)
    seen: list[Vector] = []
    previous = np.zeros(4)

    def act(t: int, state: Vector) -> Vector:
        seen.append(state.copy())
        previous[:] = inertia * previous + (1 - inertia) * base(t, seen[max(0, len(seen) - 1 - delay)])
        return previous.copy()

    return act


def crippled(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """One or two axes dead, weak or mirrored."""
    gain = np.ones(4)
    for axis in rng.choice(3, size=rng.integers(1, 3), replace=False):
        gain[axis] = rng.choice([0.0, 0.3, -0.5, -1.0])
    return lambda t, state: gain * base(t, state)


def stopping(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """Works until some frame, then stands still, holds its last action, or retreats."""
    stop, ending = int(rng.integers(2, 28)), rng.integers(3)
    last = np.zeros(4)
    retreat = np.clip(rng.normal([0.0, -0.6, 0.4, 0.0], 0.4), -1.0, 1.0)

    def act(t: int, state: Vector) -> Vector:
        if t < stop:
            last[:] = base(t, state)
            return last.copy()
        return (np.zeros(4), last.copy(), retreat)[ending]

    return act


def near_miss(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """Pushes the drawer to just before or just past the success line, then lets go; sometimes tries again."""
    stop_at, resume = rng.uniform(0.03, 0.15), rng.random() < 0.3
    retreat = np.clip(rng.normal([0.0, -0.5, 0.3, 0.0], 0.5), -1.0, 1.0)
    pace = rng.uniform(0.4, 0.9)
    first_y: list[float] = []
    released: list[int] = []

    def act(t: int, state: Vector) -> Vector:
        if not first_y:
            first_y.append(float(state[5]))
        left = first_y[0] + _CLOSED_Y - float(state[5])
        if left < stop_at and not released:
            released.append(t)
        if released and not (resume and t > released[0] + 5):
            return retreat
        return pace * base(t, state)

    return act


def waypoints(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """Visits random places around the drawer: pushes it from the side, above or inside, or misses it."""
    del base
    goals = rng.uniform([-0.22, 0.45, 0.05], [0.22, 0.88, 0.38], size=(6, 3))
    gain, tolerance, patience = rng.uniform(4.0, 25.0), 0.02, int(rng.integers(5, 14))
    index, since = [0], [0]
    grip = rng.uniform(-1.0, 1.0)

    def act(t: int, state: Vector) -> Vector:
        del t
        offset = goals[index[0] % len(goals)] - state[_HAND]
        since[0] += 1
        if np.linalg.norm(offset) < tolerance or since[0] > patience:
            index[0], since[0] = index[0] + 1, 0
        return np.append(gain * offset, grip)

    return act


def pusher(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """Lines up before the handle with an error in every direction, then pushes on at its own speed."""
    del base
    offset = rng.normal([0.0, -0.09, 0.0], [0.06, 0.02, 0.04])
    direction = np.clip(rng.normal([0.0, 0.8, 0.0], [0.3, 0.3, 0.2]), -1.0, 1.0)
    clearance, gain = rng.uniform(0.15, 0.28), rng.uniform(8.0, 25.0)
    phase = [0]

    def act(t: int, state: Vector) -> Vector:
        del t
        hand, target = state[_HAND], state[_OBJECT] + offset
        above = np.array([target[0], target[1], state[6] + clearance])
        if phase[0] == 0 and hand[2] > above[2] - 0.03 and np.linalg.norm((hand - above)[:2]) < 0.04:
            phase[0] = 1
        if phase[0] == 1 and np.linalg.norm(hand - target) < 0.035:
            phase[0] = 2
        if phase[0] == 0:
            low = hand[2] < above[2] - 0.04
            goal = np.array([hand[0], hand[1], above[2] + 0.03]) if low else above
            return np.append(gain * (goal - hand), 1.0)
        return np.append(gain * (target - hand) if phase[0] == 1 else direction, 1.0)

    return act


def walk(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """A random walk: independent, smooth, held for some frames, or one constant direction (or stillness)."""
    del base
    scale, smooth = rng.uniform(0.3, 1.5), rng.choice([0.0, 0.7, 0.9])
    hold = int(rng.choice([1, 1, 3, 6, 12, 99]))
    current = np.zeros(4)

    def act(t: int, state: Vector) -> Vector:
        del state
        if t % hold == 0:
            fresh = rng.normal(0.0, scale, 4)
            current[:] = smooth * current + (1 - smooth**2) ** 0.5 * fresh
        return np.clip(current, -1.0, 1.0)

    return act


def constant(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """Nearly the same action all along, in any direction: a policy that hardly looks at its input."""
    del base
    action = rng.uniform(-1.0, 1.0, 4) if rng.random() < 0.5 else np.clip(rng.normal(0.0, 0.6, 4), -1.0, 1.0)
    if rng.random() < 0.3:
        action[:3] *= rng.permutation([1.0, 1.0, 0.0])
    if rng.random() < 0.3:
        action[:3] = rng.choice([-1.0, -0.5, 0.0, 0.5, 1.0], 3)  # far and fast, until something is in the way
    wander, jitter = rng.normal(0.0, rng.choice([0.0, 0.3, 1.0]), (3, 4)), rng.choice([0.0, 0.1, 0.4])

    def act(t: int, state: Vector) -> Vector:
        del t
        moved = (state[_HAND] - (0.0, 0.6, 0.2)) @ wander
        return action + moved + rng.normal(0.0, jitter, 4)

    return act


def hovering(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """Hardly moves the hand while the gripper closes or opens: a policy at the beginning of its training."""
    del base
    drift, grip = rng.normal(0.0, rng.uniform(0.0, 0.2), 3), rng.uniform(-1.0, 1.0)
    jitter = rng.choice([0.0, 0.0, 0.05, 0.2])
    return lambda t, state: np.append(drift, grip) + rng.normal(0.0, jitter, 4)


def timid(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """A share of the expert's mean action, whatever it sees: what a clone does after its first steps."""
    mean = rng.uniform(0.0, 1.0) * np.array([0.0, 0.26, -0.05, 1.0]) + rng.normal(0.0, 0.06, 4)
    attention, jitter = rng.choice([0.0, 0.0, 0.1, 0.3]), rng.choice([0.0, 0.0, 0.02, 0.05])
    return lambda t, state: mean + attention * base(t, state) + rng.normal(0.0, jitter, 4)


def axis(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """One axis at a constant speed and nothing else; sometimes not even that."""
    del base
    action = np.eye(4)[rng.integers(3)] * rng.choice([-1.0, 1.0]) * rng.choice([0.0, 0.25, 0.5, 1.0, 1.0])
    until = int(rng.choice([8, 16, 99]))
    return lambda t, state: action if t < until else np.zeros(4)


def astray(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """Goes far off first, often to where the arm hides the drawer, and does the task from there."""
    goal, gain = rng.uniform([-0.4, 0.38, 0.04], [0.4, 0.62, 0.45]), rng.uniform(4.0, 25.0)
    begin, pace = int(rng.integers(0, 12)), rng.uniform(0.5, 1.0)
    until = begin + int(rng.integers(4, 16))
    grip = rng.uniform(-1.0, 1.0)

    def act(t: int, state: Vector) -> Vector:
        if begin <= t < until:
            return np.append(np.clip(gain * (goal - state[_HAND]), -1.0, 1.0), grip)
        return pace * base(t, state)

    return act


def untrained(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """A random network of the state, alone or blended with the expert: barely or half trained."""
    hidden = rng.normal(0.0, 1.0, (7, 32)) * rng.uniform(1.0, 8.0)
    head, blend = rng.normal(0.0, rng.uniform(0.05, 0.4), (32, 4)), rng.choice([0.0, 0.3, 0.6])
    centre, offset = np.array([0.0, 0.6, 0.2, 0.5, 0.0, 0.65, 0.14]), rng.normal(0.0, 0.3, 4)

    def act(t: int, state: Vector) -> Vector:
        own = np.tanh((state[:7] - centre) @ hidden) @ head + offset
        mixed: Vector = blend * base(t, state) + (1 - blend) * own
        return mixed

    return act


def still(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """Does nothing. This and the next five never close a drawer: probes for a world model's optimism."""
    del rng, base
    return lambda t, state: np.zeros(4)


def half_speed(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """The expert at half speed, which does not arrive in time."""
    del rng
    return lambda t, state: 0.5 * base(t, state)


def sideways(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """The expert until it stands before the drawer, then straight to one side."""
    side = rng.choice([-1.0, 1.0])
    return lambda t, state: base(t, state) if t < 9 else np.array([side, 0.0, 0.0, 1.0])


def sweeping(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """To the right and ahead at full speed, until the arm hides the drawer from the camera."""
    del base
    ahead = rng.uniform(0.4, 0.6)
    return lambda t, state: np.array([1.0, ahead, 0.0, 0.0])


def above(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """Reaches over the drawer and pushes the air above it, to and fro."""
    del base
    height, turn = rng.uniform(0.30, 0.36), int(rng.integers(14, 22))

    def act(t: int, state: Vector) -> Vector:
        ahead = 0.0 if state[2] < height - 0.04 else (1.0 if t < turn else -1.0)
        return np.array([10 * (state[4] - state[0]), ahead, 20 * (height - state[2]), 1.0])

    return act


def retreating(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """Backs away from the drawer."""
    del base
    lift = rng.uniform(-0.3, 0.5)
    return lambda t, state: np.array([0.0, -1.0, lift, 1.0])


def plain(rng: np.random.Generator, base: Behaviour) -> Behaviour:
    """The expert as it is."""
    del rng
    return base


# how to make each kind, and how often to draw it
KINDS: dict[str, tuple[Maker, float]] = {
    "expert": (plain, 3),
    "noisy": (noisy, 5),
    "slow": (slow, 9),
    "biased": (biased, 9),
    "misaimed": (misaimed, 9),
    "erratic": (erratic, 8),
    "sluggish": (sluggish, 6),
    "crippled": (crippled, 5),
    "stopping": (stopping, 6),
    "near-miss": (near_miss, 8),
    "waypoints": (waypoints, 9),
    "pusher": (pusher, 8),
    "walk": (walk, 9),
    "axis": (axis, 3),
    "constant": (constant, 12),
    "hovering": (hovering, 6),
    "timid": (timid, 6),
    "untrained": (untrained, 9),
    "astray": (astray, 0),
    "still": (still, 0),
    "half-speed": (half_speed, 0),
    "sideways": (sideways, 0),
    "sweeping": (sweeping, 0),
    "above": (above, 0),
    "retreating": (retreating, 0),
}
PROBES = ("still", "half-speed", "sideways", "above", "retreating", "sweeping")


def draw(rng: np.random.Generator, base: Behaviour) -> tuple[str, Behaviour]:
    """Draw a kind by weight; one episode in eight switches to a second kind on the way."""
    names = list(KINDS)
    weights = np.array([KINDS[name][1] for name in names])
    first, second = rng.choice(names, size=2, p=weights / weights.sum())
    before, after = KINDS[first][0](rng, base), KINDS[second][0](rng, base)
    if rng.random() >= 0.125:
        return str(first), before
    switch = int(rng.integers(4, 26))
    return f"{first}>{second}", lambda t, state: (before if t < switch else after)(t, state)
