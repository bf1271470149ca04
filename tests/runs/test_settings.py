"""The settings of a run: types, ranges, presets and error messages."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

from infoplane.channels import layer
from infoplane.errors import InfoplaneError
from infoplane.estimators import tap
from infoplane.nn.networks import INITS
from infoplane.runs.settings import FIELDS, INIT_NAMES, PRESETS, Settings, echo_places, snapshot_epochs


def test_the_published_schedules():
    saxe = snapshot_epochs("saxe", 10_000)
    # ibsgd takes 211 of the epochs 0 ... 9999, and we also take the last one
    assert len([e for e in saxe if e < 10_000]) == 211
    assert saxe[:21] == [*range(20), 20]
    tishby = snapshot_epochs("tishby", 8000)
    assert len([e for e in tishby if e > 0]) == 274


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("every:30", [0, 30, 60, 90, 100]),
        ("3,1", [0, 1, 3, 100]),
        ("log:3", [0, 1, 10, 100]),
    ],
)
def test_schedules_hold_the_first_and_the_last_epoch(text, expected):
    assert snapshot_epochs(text, 100) == expected


@pytest.mark.parametrize("text", ["lag:3", "log:", "every:0", "1,2,x", "5,101", "-3"])
def test_schedules_that_are_none_are_refused(text):
    with pytest.raises(InfoplaneError, match="snapshots"):
        snapshot_epochs(text, 100)


def test_default_places_avoid_the_first_layer():
    assert echo_places(2, 5) == (2, 4)
    assert echo_places(1, 5) == (4,)
    assert [len(set(echo_places(k, d))) for d in range(1, 8) for k in range(1, d + 1)] == [
        k for d in range(1, 8) for k in range(1, d + 1)
    ]
    assert all(1 not in echo_places(k, d) for d in range(2, 8) for k in range(1, d))
    with pytest.raises(InfoplaneError, match="0 to 5"):
        echo_places(6, 5)


def test_settings_survive_json():
    settings = Settings(widths=(4, 3), echo_at=(2,), estimators=("kde",))
    as_json = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.asdict().items()}
    assert Settings.fromdict(as_json) == settings
    with pytest.raises(InfoplaneError, match="Did you mean 'epochs'"):
        Settings.fromdict({"epoch": 3})


def test_presets_and_names_are_known():
    assert set(INIT_NAMES) == set(INITS)
    assert FIELDS["scale"].choices == layer.SCALES
    assert FIELDS["mixing"].choices == layer.MIXINGS
    assert FIELDS["tap_objective"].choices == tuple(tap.OBJECTIVES)
    for preset in PRESETS.values():
        Settings(**preset)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"activation": "rleu"}, "Did you mean 'relu'"),
        ({"optimizer": "adm"}, "Did you mean 'adam'"),
        ({"init": "helium"}, "Unknown init 'helium'"),
        ({"widths": (10, 0)}, "whole numbers of at least 1"),
        ({"lr": float("nan")}, "a number above 0"),
        ({"beta": -1.0}, "at least 0"),
        ({"split": 1.0}, "between 0 and 1"),
        ({"echo_at": (6,)}, "hidden layers from 1 to 5"),
        ({"echo_at": (2, 2)}, "different hidden layers"),
        ({"echo_at": (2,), "batch_size": 64}, "at least 65"),
        ({"replicas": 0}, "at least 1"),
        ({"echoes": 48}, "power of two"),
        ({"echo_on": "befor"}, "Did you mean 'before'"),
        ({"probe": "tset"}, "Did you mean 'test'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(bad, message):
    with pytest.raises(InfoplaneError, match=message):
        Settings(**bad)


def test_settings_are_checked_whether_they_are_used_or_not():
    for bad in (
        {"scale": "banana"},
        {"max_scale": 2},
        {"mixing": "fall"},
        {"noise_std": 0},
        {"tap_objective": "lable"},
    ):
        with pytest.raises(InfoplaneError):
            Settings(**bad)
    with pytest.raises(InfoplaneError, match="Did you mean 'epochs'"):
        Settings(epoch=3)
    with pytest.raises(InfoplaneError, match="Did you mean 'epochs'"):
        Settings.of(epoch=3)


class Odd:
    def __repr__(self):
        raise RuntimeError


WRONG = ["x y z", {}, [None], (None,), object, Odd(), 1.5j, b"x", {1}, [[]], float("nan"), 10**5000, "9" * 5000, True]


@pytest.mark.parametrize("name", FIELDS)
def test_values_of_another_type_are_refused_in_our_words(name):
    """Each value is accepted, or refused with an InfoplaneError that names the setting."""
    errors = []
    for value in WRONG:
        try:
            Settings.of(**{name: value})
        except InfoplaneError as error:
            errors.append(str(error))
    assert len(errors) >= len(WRONG) - 3
    assert all(name.replace("_", "-") in error for error in errors)
    assert all(len(error) < 400 for error in errors if name != "dataset")  # which may be a long path


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"lr": "4e-4"}, 4e-4),
        ({"lr": 1}, 1.0),
        ({"lr": np.float32(0.5)}, 0.5),
        ({"epochs": "1e3"}, 1000),
        ({"epochs": 10.0}, 10),
        ({"epochs": np.int64(7)}, 7),
        ({"batch_size": "full"}, 0),
        ({"widths": "4,3"}, (4, 3)),
        ({"widths": [4, "3"]}, (4, 3)),
        ({"widths": 4}, (4,)),
        ({"tap_betas": "0.01,1e-1"}, (0.01, 0.1)),
        ({"estimators": "kde; binning:bins=30"}, ("kde", "binning:bins=30")),
        ({"snapshots": [0, 1, 10]}, "0,1,10"),
        ({"snapshots": 5}, "5"),
        ({"ordered": "true"}, True),
        ({"data_root": Path("here")}, "here"),
    ],
    ids=str,
)
def test_text_and_lists_are_read_as_the_type_of_the_setting(given, read):
    ((name, _),) = given.items()
    value = getattr(Settings.of(**given), name)
    assert value == read
    assert type(value) is type(read)
    assert FIELDS[name].read(FIELDS[name].text(value)) == value


@pytest.mark.parametrize("name", ["lr", "beta", "epochs", "seed", "widths", "tap_betas"])
def test_truth_values_are_no_numbers(name):
    with pytest.raises(InfoplaneError, match="expected"):
        Settings(**{name: True})


def test_settings_are_values():
    settings = Settings(widths=[4, 3])
    assert hash(settings) == hash(Settings(widths=(4, 3)))
    assert pickle.loads(pickle.dumps(settings)) == copy.deepcopy(settings) == settings
    assert dataclasses.replace(settings, replicas="2").replicas == 2
    with pytest.raises(InfoplaneError, match="at least 1"):
        dataclasses.replace(settings, replicas=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.seed = 1


def test_every_setting_says_what_it_is():
    assert list(FIELDS) == ["preset", "echo_layers", *(f.name for f in dataclasses.fields(Settings))]
    for field in FIELDS.values():
        assert field.about.help.endswith(".")
        assert field.default is not None or field.about.default
        assert field.expected
        if field.default is not None:
            assert field.read(field.text(field.default)) == field.default


@pytest.mark.parametrize("values", [None, [], "x", {1: 2}])
def test_recorded_settings_that_are_none_are_refused(values):
    with pytest.raises(InfoplaneError, match="expected values by name"):
        Settings.fromdict(values)


def test_recorded_settings_are_read_under_their_former_names():
    now = Settings(model="cnn", conv_channels=(4, 8), noise="gaussian", max_scale=0.5, echo_at=(1,))
    former = now.asdict()
    for old, new in {"channel": "noise", "channels": "conv_channels", "bound": "max_scale"}.items():
        former[old] = former.pop(new)
    assert Settings.fromdict(former) == now
    with pytest.raises(InfoplaneError, match="both 'noise' and 'channel'"):
        Settings.fromdict(former | {"noise": "echo"})
    with pytest.raises(InfoplaneError, match="Unknown setting 'channel'; it is now called 'noise'"):
        Settings(channel="echo")
