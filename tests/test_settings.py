"""What a run can be told, and what it is told back."""

from __future__ import annotations

import pytest

from infoplane.networks import INITS
from infoplane.records import InfoplaneError
from infoplane.settings import INIT_NAMES, PRESETS, Settings, echo_places, snapshot_epochs


def test_the_published_schedules():
    saxe = snapshot_epochs("saxe", 10_000)
    # ibsgd: 211 of the epochs 0 ... 9999, and ours also looks at the end
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
    for preset in PRESETS.values():
        Settings(**preset)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"activation": "rleu"}, "Did you mean 'relu'"),
        ({"optimizer": "adm"}, "Did you mean 'adam'"),
        ({"init": "helium"}, "initialisation"),
        ({"widths": (10, 0)}, "widths of at least 1"),
        ({"lr": float("nan")}, "positive number"),
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
