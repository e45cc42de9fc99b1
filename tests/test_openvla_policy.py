"""Vision-language-action models through transformers: a checkpoint with code of its own, as OpenVLA's."""

import json
import sys

import numpy as np
import pytest
import tinyvla

from v2w_gym.config import to_dict
from v2w_gym.data.framing import Framing
from v2w_gym.envs.arm import arm_spec
from v2w_gym.envs.domains import DOMAINS, RT1_ACTIONS
from v2w_gym.envs.world import DetectorSpec, WorldConfig
from v2w_gym.policies import resolve
from v2w_gym.policies.adapted import adapt
from v2w_gym.policies.contract import ActionContract, ContractMismatch, check_contract
from v2w_gym.policies.openvla import OpenVLAPolicy, VlaSettings

RT1 = ActionContract.of_spec(RT1_ACTIONS, 3.0)
RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (3, 32, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from transformers import dynamic_module_utils

    cache = str(tmp_path_factory.mktemp("modules"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", cache)
        patch.syspath_prepend(cache)
        forget_remote_code()
        yield tinyvla.write(tmp_path_factory.mktemp("vla") / "checkpoint")
    forget_remote_code()


def forget_remote_code():
    """The package of remote code that another test has imported lies in another folder."""
    for name in [name for name in sys.modules if name.split(".")[0] == "transformers_modules"]:
        del sys.modules[name]


def opened(folder, dtype="fp32", **settings):
    made = OpenVLAPolicy.from_pretrained(
        str(folder), VlaSettings(**settings), trust_remote_code=True, dtype=dtype
    )
    made.reset(["Close Drawer"] * 3, [0, 1, 2])
    return made


class Model:
    """Notes what it is asked with."""

    norm_stats = tinyvla.NORM_STATS

    def __init__(self, answer=(0.0,) * 7):
        self.answer, self.asked = answer, []

    def predict_action(self, **inputs):
        self.asked.append(inputs)
        return np.asarray(self.answer, np.float64)


class Processor:
    def __init__(self):
        self.seen = []

    def __call__(self, prompt, image):
        self.seen.append((prompt, np.asarray(image)))
        return {"input_ids": len(self.seen)}


def test_actions_are_those_of_the_checkpoints_own_code(folder):
    made = opened(folder, unnorm_key="fractal20220817_data")
    actions = made.act({"pixels": FRAMES})
    assert actions.shape == (3, 7)
    assert actions.dtype == np.float32
    for slot in range(3):  # slots do not know of each other
        made.reset(["Close Drawer"], [0])
        assert (made.act({"pixels": FRAMES[slot : slot + 1]})[0] == actions[slot]).all()
    low, high = np.array(made.contract.low), np.array(made.contract.high)
    assert ((actions >= low - 1e-6) & (actions <= high + 1e-6)).all()
    quarter = opened(folder, unnorm_key="bridge_orig").act({"pixels": FRAMES})
    np.testing.assert_allclose(quarter[:, :6], actions[:, :6] / 4, rtol=1e-5)


def test_half_precision_is_the_default_of_openvla(folder):
    made = OpenVLAPolicy.from_pretrained(str(folder), VlaSettings("bridge_orig"), trust_remote_code=True)
    assert str(made._model.dtype) == "torch.bfloat16"
    assert np.isfinite(made.act({"pixels": FRAMES[:1]})).all()


def test_files_of_the_checkpoint_run_only_where_that_is_allowed(folder, tmp_path):
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        OpenVLAPolicy.from_pretrained(str(folder))
    with pytest.raises(ValueError, match="could not be loaded"):
        OpenVLAPolicy.from_pretrained(str(tmp_path), trust_remote_code=True)


def test_a_class_under_the_newer_name_is_loaded_too(folder, tmp_path):
    newer = tinyvla.write(tmp_path / "newer", auto_model="AutoModelForImageTextToText")
    one = opened(newer, unnorm_key="bridge_orig").act({"pixels": FRAMES})
    assert (one == opened(folder, unnorm_key="bridge_orig").act({"pixels": FRAMES})).all()


def test_statistics_beside_a_fine_tuned_checkpoint_take_the_place_of_its_own(tmp_path, folder):
    tuned = tinyvla.write(tmp_path / "tuned")
    (tuned / "dataset_statistics.json").write_text(json.dumps({"mine": tinyvla.statistics(2.0)}))
    made = opened(tuned)  # the only key there is
    assert made.unnorm_key == "mine"
    assert made.contract.high[:3] == pytest.approx((0.2,) * 3)


@pytest.mark.parametrize(
    ("stats", "key", "text"),
    [
        (tinyvla.NORM_STATS, None, "known: fractal20220817_data, bridge_orig"),
        (tinyvla.NORM_STATS, "bridge", "did you mean 'bridge_orig'? known: "),
        (None, None, "dataset_statistics.json"),
        ({}, "x", "no norm_stats"),
        ({"two": {"action": {"q01": [0, 0], "q99": [1, 1]}}}, None, "q01 and q99 of 7"),
        ({"old": {"action": {"mean": [0] * 7}}}, None, "q01 and q99 of 7"),
        ({"bare": {"proprio": {}}}, None, "q01 and q99 of 7 .* got nothing"),
    ],
)
def test_missing_and_ambiguous_statistics_are_errors_that_list_what_is_known(stats, key, text):
    model = Model()
    model.norm_stats = stats
    with pytest.raises(ValueError, match=text.replace("?", r"\?")):
        OpenVLAPolicy(model, Processor(), VlaSettings(key))


def test_a_model_without_predict_action_is_refused():
    with pytest.raises(TypeError, match="predict_action"):
        OpenVLAPolicy(object(), Processor())


def test_the_model_is_asked_as_openvlas_code_asks():
    model, processor = Model(), Processor()
    made = OpenVLAPolicy(model, processor, VlaSettings("bridge_orig"))
    made.reset(["Put the SPOON down", "b"], [0, 1])
    made.reset(["c"], [1])
    made.act({"pixels": FRAMES[:2]})
    prompts = [prompt for prompt, _ in processor.seen]
    assert prompts[0] == "In: What action should the robot take to put the spoon down?\nOut:"
    assert prompts[1] == "In: What action should the robot take to c?\nOut:"
    assert model.asked == [
        {"input_ids": 1, "unnorm_key": "bridge_orig", "do_sample": False},
        {"input_ids": 2, "unnorm_key": "bridge_orig", "do_sample": False},
    ]
    assert (processor.seen[0][1] == FRAMES[0]).all()


def test_bars_and_margins_are_cut_as_asked():
    processor = Processor()
    framing = Framing(source=(32, 32), picture=(32, 32), bars=(0, 0, 4, 4))
    settings = VlaSettings("bridge_orig", framing=framing, center_crop=0.25)
    OpenVLAPolicy(Model(), processor, settings).act({"pixels": FRAMES[:1]})
    assert (processor.seen[0][1] == FRAMES[0, 8:24, 12:28]).all()
    for wrong in ({"prompt": "do it"}, {"center_crop": 0.0}, {"center_crop": 1.5}):
        with pytest.raises(ValueError, match=r"prompt|center_crop"):
            VlaSettings(**wrong)


@pytest.mark.parametrize("answer", [[0.0] * 6, [np.nan] * 7, [[0.0] * 7]])
def test_what_is_no_action_is_refused(answer):
    with pytest.raises(ValueError, match="7 finite numbers"):
        OpenVLAPolicy(Model(answer), Processor(), VlaSettings("bridge_orig")).act({"pixels": FRAMES[:1]})


def test_the_contract_holds_its_statistics_against_the_worlds():
    bridge = OpenVLAPolicy(Model(), Processor(), VlaSettings("bridge_orig"))
    with pytest.raises(ContractMismatch, match=r"unnorm_key='fractal20220817_data'"):
        adapt(bridge, RT1, gripper="sticky")
    fractal = OpenVLAPolicy(Model((0.05,) * 6 + (1.0,)), Processor(), VlaSettings("fractal20220817_data"))
    assert set(check_contract(fractal.contract, ActionContract.of_spec(arm_spec("openness")))) == {
        "frame",
        "rate",
    }
    with pytest.raises(ContractMismatch, match="names"):
        check_contract(fractal, RT1)
    fitted = adapt(fractal, RT1, gripper="follow")
    action = fitted.act({"pixels": FRAMES[:1]})[0]
    assert action[RT1_ACTIONS.names.index("gripper_closedness")] == -1.0  # fully open: told to open
    assert action[10:13] == pytest.approx([0.05] * 3)


def test_a_spec_fits_it_to_a_world_and_takes_off_its_bars(folder, tmp_path):
    framing = DOMAINS["rt1"].framing
    sizes = {"frame_size": framing.frame_size, "fps": 3.0, "horizon": 3, "window": 4}
    config = WorldConfig(
        name="rt1",
        version=1,
        action=RT1_ACTIONS,
        instructions=("close it",),
        detector=DetectorSpec("none"),
        framing=framing,
        action_bound=None,
        **sizes,
    )
    (tmp_path / "world.json").write_text(json.dumps(to_dict(config)))
    options = f"unnorm_key=fractal20220817_data,trust_remote_code=true,world={tmp_path},clip=true"
    made = resolve(f"openvla:{folder},{options},gripper=sticky")
    assert check_contract(made, config) == ("frame", "rate")
    assert made.policy.settings.framing == framing
    made.reset(["close it"], [0])
    assert made.act({"pixels": np.zeros((1, *framing.frame_size, 3), np.uint8)}).shape == (1, 13)
    with pytest.raises(ValueError, match=r'gripper="sticky"'):
        resolve(f"openvla:{folder},{options}")


def test_a_spec_opens_and_fits_it(folder):
    made = resolve(f"openvla:{folder},unnorm_key=bridge_orig,trust_remote_code=true,dtype=fp32")
    assert made.act({"pixels": FRAMES}).shape == (3, 7)
    with pytest.raises(ValueError, match=r"policy 'openvla:.*did you mean 'bridge_orig'"):
        resolve(f"openvla:{folder},unnorm_key=bridge,trust_remote_code=true")
    with pytest.raises(ValueError, match="world=ID_OR_FOLDER"):
        resolve(f"openvla:{folder},unnorm_key=bridge_orig,trust_remote_code=true,clip=true")
    with pytest.raises(ValueError, match=r"lacks .* and has"):
        resolve(
            f"openvla:{folder},unnorm_key=bridge_orig,trust_remote_code=true,world=Vid2World-DrawerClose-v0"
        )
