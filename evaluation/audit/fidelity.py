"""How near replayed episodes stay to what was recorded, for how long, and whether the action does it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from v2w_gym.data.episode import FrameArray
from v2w_gym.evaluation.audit.evidence import Evidence
from v2w_gym.evaluation.audit.finding import Bound, Finding, judged, over_episodes
from v2w_gym.evaluation.metrics import psnr, squared_error, ssim
from v2w_gym.evaluation.metrics_lpips import Lpips
from v2w_gym.evaluation.stats import CONFIDENCE, Estimate, wilson

Floats = npt.NDArray[np.float64]

FIDELITY = ("replay_fidelity", "do replayed episodes look like the recorded ones?")
ACTIONS = ("true_actions", "does an episode come nearer to reality with its own actions than with others'?")
HORIZON = ("horizon", "for how many steps can a replay be believed?")

EXPLAINS = Bound(0.5, None, "less than half of the recorded change means more wrong than right")
OWN = Bound(0.9, None, "one in ten may have drawn another's actions that do the same")
SHARE = 0.9  # of the episodes that must stay within the distance


def similarity(imagined: FrameArray, recorded: FrameArray, lpips: Lpips | None) -> dict[str, Floats]:
    """PSNR in dB, SSIM and, given its weights, LPIPS of frames ``(n, f, h, w, 3)``: ``(n, f)`` each."""
    found = {"psnr_db": psnr(imagined, recorded), "ssim": ssim(imagined, recorded)}
    if lpips is not None:
        flat = [frames.reshape(-1, *frames.shape[2:]) for frames in (imagined, recorded)]
        found[f"lpips_{lpips.network.lower()}"] = lpips(*flat).reshape(imagined.shape[:2])
    return found


def replay_fidelity(evidence: Evidence, own: dict[str, Floats]) -> Finding:
    """Share of the recorded change that is right: 1 - the replay's squared error over a still picture's."""
    recorded = evidence.heldout.recorded
    still = np.broadcast_to(recorded[:, :1], recorded[:, 1:].shape)
    missed = squared_error(evidence.heldout.replay.frames[:, 1:], recorded[:, 1:]).mean(axis=1)
    changed = squared_error(recorded[:, 1:], still).mean(axis=1)
    skill = over_episodes(lambda w: 1 - (w @ missed) / np.maximum(w @ changed, 1e-9), len(recorded))
    by_step = {name: values.mean(axis=0).round(4).tolist() for name, values in own.items()}
    still_psnr = psnr(recorded[:, 1:], still).mean(axis=0)
    means = ", ".join(f"{name} {values.mean():.3g}" for name, values in own.items())
    return judged(
        *FIDELITY,
        EXPLAINS,
        skill,
        f"{skill.value:.0%} of the recorded change is right; {means} over all steps; "
        f"a still picture would have {still_psnr.mean():.3g} dB",
        by_step=by_step,
        still_picture_psnr_db=still_psnr.round(4).tolist(),
        mean={name: round(float(values.mean()), 4) for name, values in own.items()},
    )


def true_actions(evidence: Evidence, own: dict[str, Floats]) -> Finding:
    """Own actions against those of another episode, from the same start and with the same noise.

    The deltas are 100 (own - other) / other of each metric's mean, as the signs and sizes of the paper's
    table 4 suggest: positive for PSNR and SSIM and negative for LPIPS where the world follows its actions, 0
    where it ignores them.
    """
    recorded = evidence.heldout.recorded[:, 1:]
    other = similarity(evidence.swapped.frames[:, 1:], recorded, evidence.lpips)
    near, far = (
        squared_error(frames[:, 1:], recorded).mean(axis=1)
        for frames in (evidence.heldout.replay.frames, evidence.swapped.frames)
    )
    share = wilson(successes=int((near < far).sum()), episodes=len(near))
    delta = {
        k: round(100 * (own[k].mean() - v.mean()) / max(abs(v.mean()), 1e-9), 2) for k, v in other.items()
    }
    shown = ", ".join(f"{name} {value:+.1f} %" for name, value in delta.items())
    return judged(
        *ACTIONS,
        OWN,
        share,
        f"{int((near < far).sum())} of {len(near)} episodes; from others' actions to its own: {shown}",
        delta_percent=delta,
        own={k: round(float(v.mean()), 4) for k, v in own.items()},
        others={k: round(float(v.mean()), 4) for k, v in other.items()},
    )


def horizon(evidence: Evidence) -> Finding:
    """The step until which, with 95 % confidence, nine in ten episodes stay within the stated distance.

    An episode counts up to the first step at which it leaves. At each step the exact lower bound of the share
    that has stayed is tested; the shares only fall, so testing them in order keeps the confidence for all.
    """
    nearness = np.minimum.accumulate(evidence.heldout.replay.psnr, axis=1)
    staying = (nearness >= evidence.within).sum(axis=0)
    episodes, steps = nearness.shape
    lower = np.array([exact_lower_bound(int(k), episodes) for k in staying])
    certified = int((lower >= SHARE).sum())
    bound = Bound(float(steps), None, "policies are judged over whole episodes, so all their steps must hold")
    stated = f"{SHARE:.0%} of episodes within {evidence.within:g} dB of the recording"
    needed = int(np.ceil(np.log(1 - CONFIDENCE) / np.log(SHARE)))
    few = f"; it takes {needed} episodes to promise that at all" if episodes < needed else ""
    return judged(
        *HORIZON,
        bound,
        Estimate(float(certified), float(certified), float(certified)),
        f"{stated}, {CONFIDENCE:.0%} confident, for {certified} of {steps} steps; at the last step "
        f"{staying[-1]} of {episodes} episodes are{few}",
        certified_steps=certified,
        within_db=evidence.within,
        share=SHARE,
        confidence=CONFIDENCE,
        staying=(staying / episodes).round(4).tolist(),
    )


def exact_lower_bound(successes: int, episodes: int) -> float:
    """Lower end of a one-sided 95 % interval after Clopper and Pearson."""
    return float(beta.ppf(1 - CONFIDENCE, successes, episodes - successes + 1)) if successes else 0.0
