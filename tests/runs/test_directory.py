import builtins
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
import torch

from infoplane.errors import InfoplaneError
from infoplane.records import COLUMNS, TABLES, Measurement
from infoplane.runs import directory as rundir
from infoplane.runs.directory import FORMAT, RunDir

ROOT = Path(__file__).parents[2]
CONFIG = {"seed": 3, "layers": [10, 7], "beta": 0.1 + 0.2, "name": "µ", "device": None, "echo": {"r": 0.947}}


def row(epoch=0, value=1.0, **changes):
    fields = dict(
        run="a", epoch=epoch, step=10 * epoch, replica=0, probe="all", layer="1", quantity="I(X;T)", value=value,
        standing="estimate", channel="bins of .07", estimator="binning", params="width=0.07", n=4096,
        ceiling=math.log(4096), warnings=("mostly-unique", "sparse-cells"),
    )  # fmt: skip
    return Measurement(**{**fields, **changes}).row()


def metric(epoch=0, **changes):
    fields = {
        "run": "a", "epoch": epoch, "step": 10 * epoch, "replica": 0, "split": "train", "path": "plain",
        "objective": "cross-entropy", "loss": 0.25, "error": 0.5, "accuracy": 0.5, "rate_nats": None,
    }  # fmt: skip
    return {**fields, **changes}


def certificate(epoch=0, **changes):
    place = {"run": "a", "epoch": epoch, "step": 0, "replica": 0, "probe": "all", "layer": "1.echo"}
    return TABLES["certificates"].row(place | {"n": 9, "references": 4096, **changes})


@pytest.fixture
def run(tmp_path):
    with RunDir.create(tmp_path / "run", CONFIG) as made:
        yield made


def start(code, *arguments):
    """Start Python in another process, which prints a line when it is ready."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "ready"
    return child


def end(child):
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL


# making and opening


def test_the_folder_explains_itself(run):
    assert json.loads((run.path / "config.json").read_text()) == {"format": 2, **CONFIG} == run.config
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["torch"].startswith(torch.__version__.split("+")[0])
    assert environment["threads"] == torch.get_num_threads()
    assert {"infoplane", "numpy", "python", "platform", "device"} <= environment.keys()
    assert run.name == "run"
    again = RunDir.open(run.path)
    assert again.config == {"format": 2, **CONFIG}
    assert not again.done
    assert again.checkpoints() == []
    run.mark_done()
    assert again.done


def test_figures_is_made_on_demand(run):
    assert not (run.path / "figures").exists()
    assert run.figures == run.path / "figures"
    assert run.figures.is_dir()
    run.figures.rmdir()
    (run.path / "figures").write_text("")
    with pytest.raises(InfoplaneError, match=r"Cannot make .*figures: File exists"):
        _ = run.figures


def test_config_takes_what_json_can_say(tmp_path):
    config = {
        "path": Path("a"),
        "sizes": (3, 2),
        "width": numpy.float32(0.5),
        "r": torch.tensor(0.25),
        "n": numpy.int64(3),
    }
    with RunDir.create(tmp_path / "a", config) as run:
        assert run.config == {"format": 2, "path": "a", "sizes": [3, 2], "width": 0.5, "r": 0.25, "n": 3}
        assert RunDir.open(run.path).config == run.config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"a": [1.0, math.nan]}, r"config\.a\[1\] is nan, which JSON cannot hold"),
        ({"a": {"b": -math.inf}}, r"config\.a\.b is -inf"),
        ({"a": numpy.float64("inf")}, r"config\.a is inf"),
        ({"a": {1}}, r"config\.a is a set, which config\.json cannot hold; expected text, numbers"),
        ({"a": numpy.zeros(2)}, r"config\.a is a ndarray"),
        ({"a": {1: 2}}, r"config\.a has the key 1; expected a string, as all keys of config\.json are"),
    ],
)
def test_config_refuses_what_json_cannot_say(tmp_path, config, message):
    with pytest.raises(InfoplaneError, match=message):
        RunDir.create(tmp_path / "a", config)
    assert not (tmp_path / "a").exists()


def test_a_run_is_not_overwritten(run):
    run.close()
    with pytest.raises(InfoplaneError, match=r"holds another run\. Continue it \(--resume\), replace it \(--force\)"):
        RunDir.create(run.path, {})
    assert RunDir.open(run.path).config == run.config


def test_force_empties_the_runs_own_files_only(run):
    run.append({"measurements": [row()]})
    run.append({"metrics": [metric()]})
    run.save_checkpoint({"w": torch.ones(1)})
    (run.figures / "plane.png").write_text("")
    run.mark_done()
    foreign = [run.path / "notes.txt", run.path / "checkpoints" / "notes.txt", run.figures / "notes.txt"]
    for file in foreign:
        file.write_text("mine")
    leftover = [run.path / "measurements.csv.part", run.path / "checkpoints" / "last.pt.part"]
    for file in leftover:
        file.write_text("")
    run.close()
    with RunDir.create(run.path, {"seed": 4}, force=True) as new:
        assert RunDir.open(run.path).config == {"format": 2, "seed": 4}
        assert not new.done
        assert new.checkpoints() == []
        assert new.read("measurements").empty
        assert new.read("metrics").empty
        assert list(new.figures.iterdir()) == [run.path / "figures" / "notes.txt"]
        assert [file.read_text() for file in foreign] == ["mine"] * 3
        assert not any(file.exists() for file in leftover)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("foreign", ["notes.txt", "config.json", "measurements.csv", "figures"])
def test_a_folder_that_is_no_run_is_left_alone(tmp_path, force, foreign):
    (tmp_path / foreign).write_text("{}")
    with pytest.raises(InfoplaneError, match=f"is not empty and is no run directory .it holds '{foreign}'"):
        RunDir.create(tmp_path, {}, force=force)
    assert [file.name for file in tmp_path.iterdir()] == [foreign]
    with pytest.raises(
        InfoplaneError, match=r"is no run directory: it holds no run\. A run directory holds config\.json"
    ):
        RunDir.open(tmp_path)


def test_a_create_that_was_killed_can_be_repeated(tmp_path):
    for name in (".lock", "environment.json", "config.json.part"):
        (tmp_path / name).write_text('{"infoplane": "1"}')
    with RunDir.create(tmp_path, CONFIG) as run:
        assert sorted(file.name for file in run.path.iterdir()) == [".lock", "config.json", "environment.json"]


def test_open_says_what_is_wrong(run, tmp_path):
    with pytest.raises(InfoplaneError, match="is no run directory: it does not exist"):
        RunDir.open(tmp_path / "absent")
    with pytest.raises(InfoplaneError, match="is no run directory: it is a file"):
        RunDir.open(run.path / "config.json")
    (run.path / "config.json").write_text("{")
    with pytest.raises(InfoplaneError, match=r"Cannot read .*config\.json: Expecting property name"):
        RunDir.open(run.path)


def test_a_place_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InfoplaneError, match=r"Cannot write a run to .*: Not a directory\. Choose another folder"):
        RunDir.create(tmp_path / "file" / "run", {})
    with pytest.raises(InfoplaneError, match=r"Cannot write a run to .*: File exists\. Choose another folder"):
        RunDir.create(tmp_path / "file", {})
    reader = RunDir.open(run.path)
    run.close()
    (run.path / ".lock").unlink()
    (run.path / ".lock").mkdir()
    with pytest.raises(InfoplaneError, match=r"Cannot write to .*: Is a directory"):
        reader.append({"metrics": [metric()]})


def test_import_is_light():
    code = "import sys, infoplane.runs.directory; print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "[]"


# tables


def test_measurements_round_trip_to_the_last_bit(run):
    values = [0.1 + 0.2, 1e-300, math.nan, math.inf, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3, numpy.float64(0.1)]
    values += numpy.random.default_rng(0).lognormal(0, 200, 2000).tolist()
    rows = [row(epoch, value, params='a, "b"', warnings=()) for epoch, value in enumerate(values)]
    run.append({"measurements": rows[:3]})
    run.append({"measurements": rows[3:]})
    frame = RunDir.open(run.path).read("measurements")
    assert tuple(frame.columns) == COLUMNS
    numpy.testing.assert_array_equal(
        frame.value_nats.to_numpy().view("i8"), numpy.array(values, dtype=float).view("i8")
    )
    assert frame.epoch.tolist() == list(range(len(values)))
    assert frame.epoch.dtype == frame.n.dtype == "int64"
    assert set(frame.warnings) == {""}
    assert set(frame.params) == {'a, "b"'}
    assert frame.stderr_nats.isna().all()
    assert {type(text) for text in frame.warnings} == {str}


def test_words_stay_words(run):
    run.append({"measurements": [row(run="7", layer="1"), row(run="nan", layer="", warnings=())]})
    frame = run.read("measurements")
    assert frame.run.tolist() == ["7", "nan"]
    assert frame.layer.tolist() == ["1", ""]
    assert frame.warnings.tolist() == ["mostly-unique;sparse-cells", ""]


def test_every_table_has_the_columns_of_its_schema(run):
    run.append({"certificates": [certificate(margin=numpy.float32(0.1), tail_ok=numpy.bool_(True))]})
    run.append({"certificates": [certificate(numpy.int64(1), margin=None, tail_ok=False, void="3 5")]})
    frame = run.read("certificates")
    assert list(frame.columns) == list(TABLES["certificates"].columns)
    assert frame.tail_ok.tolist() == [True, False]
    assert frame.tail_ok.dtype == bool
    assert frame.margin[0] == float(numpy.float32(0.1))
    assert math.isnan(frame.margin[1])
    assert frame.margin_ok.isna().all()  # not known, which is neither True nor False
    assert frame.void.tolist() == ["", "3 5"]
    fields = (run.path / "certificates.csv").read_text().splitlines()[2].split(",")
    assert fields[list(frame.columns).index("margin")] == ""
    run.append({"metrics": []})
    assert not (run.path / "metrics.csv").exists()
    for table, schema in TABLES.items():
        if table != "certificates":
            empty = run.read(table)
            assert empty.empty
            assert list(empty.columns) == list(schema.columns)
            assert all(empty[c].dtype == "float64" for c, kind in schema.columns.items() if kind is float)


def test_polars_and_spreadsheets_read_numbers_as_numbers(run):
    run.append({"measurements": [row(0, math.nan), row(1)]})
    text = (run.path / "measurements.csv").read_text()
    assert "nan" not in text
    assert text.splitlines()[1].split(",")[7] == ""


def test_text_that_reads_as_a_number_stays_text(run):
    # the void units of a certificate: "3", then "3 5"
    texts = ["", "3", "3 5", "nan", "True", "tail", "1e3", 'say "3", 5']
    rows = [certificate(k, void=text, warnings=text, n=k) for k, text in enumerate(texts)]
    for order in (rows, rows[1:] + rows[:1], rows[4:] + rows[:4]):
        run.append({"certificates": order})
        frame = run.read("certificates")
        assert frame.void.tolist() == frame.warnings.tolist() == [row["void"] for row in order]
        assert frame.epoch.tolist() == frame.n.tolist() == [row["epoch"] for row in order]
        run.cut(-1)
    run.append({"certificates": rows[1:2]})
    assert ',"3",' in (run.path / "certificates.csv").read_text()  # quoted, so that others read it as text too


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            {"epoch": 1, "loss": 1.0},
            r"does not fit metrics\.csv; columns missing: run, step, replica, .*; unknown: none",
        ),
        (metric(los=1.0), "columns missing: none; unknown: los"),
        (metric(epoch=1.5), "epoch is 1.5; expected an integer"),
        (metric(epoch=True), "epoch is True; expected an integer"),
        ({**metric(), "epoch": None}, "epoch is None; expected an integer"),
        (metric(loss=[1.0]), r"loss is \[1\.0\]; expected a number, or None where it is not known"),
        (metric(loss="0.5"), "loss is '0.5'; expected a number"),
        (metric(loss=True), "loss is True; expected a number"),
        (metric(loss=torch.zeros(2)), "loss is tensor"),
        (metric(split="a\nb"), r"split is 'a\\nb'; expected text of one line"),
        (metric(split=None), "split is None; expected text of one line"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_whole(run, bad, message):
    run.append({"metrics": [metric()]})
    before = (run.path / "metrics.csv").read_bytes()
    with pytest.raises(InfoplaneError, match=message):
        run.append({"metrics": [metric(1), bad]})
    assert (run.path / "metrics.csv").read_bytes() == before


def test_a_bad_first_row_fixes_nothing(run):
    with pytest.raises(InfoplaneError, match="columns missing: run"):
        run.append({"metrics": [{"loss": 1.0}]})
    with pytest.raises(InfoplaneError, match=r"does not fit measurements\.csv; columns missing: probe"):
        run.append({"measurements": [metric()]})
    run.append({"metrics": [metric()]})
    assert len(run.read("metrics")) == 1


def test_an_unknown_table_gets_the_nearest(run):
    for call in (lambda: run.read("metric"), lambda: run.append({"metric": [metric()]})):
        with pytest.raises(InfoplaneError, match=r"Unknown table 'metric'. Did you mean 'metrics'"):
            call()


@pytest.mark.parametrize("table", ["measurements", "metrics"])
def test_every_place_a_kill_can_tear_a_table(run, table):
    make = row if table == "measurements" else metric
    words = {"params": 'a, "b"'} if table == "measurements" else {"split": "trä, in"}
    run.append({table: [make(0, **words), make(1, **words)]})
    path = run.path / f"{table}.csv"
    whole = path.read_bytes()
    for size in range(len(whole)) if table == "metrics" else [1, 40, 200, 300, 301, 420, len(whole) - 1]:
        torn = whole[:size]
        complete = max(0, torn.count(b"\n") - 1)
        path.write_bytes(torn)
        run.close()  # forget the columns, as another process would
        if torn and not torn.endswith(b"\n"):
            with pytest.warns(UserWarning, match="last line is half-written and was left out"):
                assert len(run.read(table)) == complete
            run.cut(9)
            assert path.read_bytes() == torn[: torn.rfind(b"\n") + 1]
            path.write_bytes(torn)
            with pytest.warns(UserWarning, match="last line was half-written and was removed"):
                run.append({table: [make(5, **words)]})
        else:
            assert len(run.read(table)) == complete
            run.append({table: [make(5, **words)]})
        assert run.read(table).epoch.tolist() == [*range(complete), 5]


def test_a_last_line_with_too_few_fields_is_left_out(run):
    run.append({"metrics": [metric(), metric(1)]})
    with open(run.path / "metrics.csv", "a") as file:
        file.write("a,2,20\n")
    with pytest.warns(UserWarning, match="half-written"):
        assert run.read("metrics").epoch.tolist() == [0, 1]
    run.cut(2)
    assert run.read("metrics").epoch.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            b"1,10,0,train,plain,cross-entropy,0.25",
            b"1,10,0,tr",
            r"metrics\.csv, line 3: 8 fields where the header has 11\. The file is damaged",
        ),
        (b"a,1,10,0,train,plain,cross-entropy,0.25,0.5,0.5,", b"", r"metrics\.csv, line 3: 1 fields"),
        (b"1,10,0,train", b'1,10,0,"train', r"metrics\.csv, line 3: no readable fields"),
        (b"1,10,0,train", b"1,10,0,tr\xff", r"metrics\.csv, line 3: no readable fields"),
        (
            b"1,10,0,train,plain,cross-entropy,0.25",
            b"1,10,0,train,plain,cross-entropy,0.2x",
            r"metrics\.csv, line 3: loss is '0\.2x', not a number",
        ),
        (b"1,10,0,train", b"1x,10,0,train", r"metrics\.csv, line 3: epoch is '1x', not a"),
    ],
)
def test_a_damaged_row_in_the_middle_is_named(run, old, new, message):
    run.append({"metrics": [metric(), metric(1), metric(2)]})
    path = run.path / "metrics.csv"
    damaged = path.read_bytes().replace(old, new)
    path.write_bytes(damaged)
    with pytest.raises(InfoplaneError, match=message):
        run.read("metrics")
    if "loss" not in message:
        with pytest.raises(InfoplaneError, match=message):
            run.cut(0)
    assert path.read_bytes() == damaged


def test_cut_leaves_the_earlier_rows_alone(run):
    for epoch in (0, 1, 5, 3):
        run.append({"measurements": [row(epoch, 0.1 * epoch), row(epoch, 0.2 * epoch, params='a, "b"')]})
        run.append({"metrics": [metric(epoch)]})
    path, other = run.path / "measurements.csv", run.path / "certificates.csv"
    # no writer of ours would write this, and yet it must be kept to the byte
    odd = path.read_bytes().replace(b",0.1,", b",1.0E-01,")
    assert odd != path.read_bytes()
    path.write_bytes(odd)
    before, metrics = odd.splitlines(keepends=True), (run.path / "metrics.csv").stat()
    run.cut(3)
    assert path.read_bytes() == b"".join(before[:5] + before[7:])
    assert run.read("metrics").epoch.tolist() == [0, 1, 3]
    assert not other.exists()
    assert not list(run.path.glob("*.part"))
    untouched = path.stat().st_ino
    run.cut(3)
    assert path.stat().st_ino == untouched
    assert (run.path / "metrics.csv").stat().st_ino != metrics.st_ino
    run.append({"measurements": [row(4)]})
    assert run.read("measurements").epoch.tolist() == [0, 0, 1, 1, 3, 3, 4]
    run.cut(-1)
    assert path.read_bytes() == before[0]


def test_a_full_disk_leaves_the_table_as_it_was(run):
    run.append({"metrics": [metric()]})
    path = run.path / "metrics.csv"
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 30, limits[1]))
        with pytest.raises(InfoplaneError, match=r"Cannot write .*metrics\.csv: File too large"):
            run.append({"metrics": [metric(1)] * 10})
        with pytest.raises(InfoplaneError, match=r"Cannot write .*last\.pt: File too large"):
            run.save_checkpoint({"w": torch.zeros(100)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == before
    assert not list((run.path / "checkpoints").iterdir())


def test_an_interrupt_leaves_no_half_line(run, monkeypatch):
    run.append({"metrics": [metric()]})

    def interrupted(descriptor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rundir.os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.append({"metrics": [metric(1)]})
    run.append({"metrics": [metric(2)]})
    assert run.read("metrics").epoch.tolist() == [0, 2]


def test_rows_are_on_disk_when_append_returns(run, monkeypatch):
    synced = []
    monkeypatch.setattr(rundir.os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    run.append({"metrics": [metric()]})
    run.append({"metrics": [metric(1), metric(2)]})
    assert synced[-1] == (run.path / "metrics.csv").stat().st_size
    assert len(synced) == 3


APPEND = """
import sys
from infoplane.records import TABLES
from infoplane.runs.directory import RunDir
run = RunDir.create(sys.argv[1], {})
print("ready", flush=True)
epoch = 0
while True:
    for table in ("gradients", "metrics"):
        place = {"run": "x" * 5000, "epoch": epoch, "step": 0, "layer": "", "split": "", "path": "", "batches": 0}
        own = [{k: v for k, v in (place | {"replica": r}).items() if k in TABLES[table].columns} for r in range(50)]
        run.append({table: [TABLES[table].row(row) for row in own]})
    epoch += 1
"""


def test_kill_while_appending(tmp_path):
    path = tmp_path / "run"
    child = start(APPEND, path)
    while not (path / "metrics.csv").exists() or (path / "metrics.csv").stat().st_size < 1_000_000:
        time.sleep(0.002)
    end(child)
    with RunDir.open(path) as run:
        last = int((path / "metrics.csv").read_text().splitlines()[-2].split(",")[1])
        run.cut(last - 1)
        for table in ("gradients", "metrics"):
            frame = run.read(table)  # a half-written line would warn, and a warning is an error
            assert frame.epoch.tolist() == [epoch for epoch in range(last) for _ in range(50)]
            assert frame.replica.tolist() == list(range(50)) * last
            assert set(frame.run) == {"x" * 5000}


# checkpoints


def test_checkpoint_round_trip(run):
    state = {"w": torch.randn(3, 2), "n": 3, "names": ["a"], "rng": torch.get_rng_state(), "f": 0.1 + 0.2}
    run.save_checkpoint(state)
    for name in ("epoch-10", "epoch-9"):
        run.save_checkpoint({"w": torch.zeros(1)}, name)
    back = RunDir.open(run.path).load_checkpoint()
    assert torch.equal(back["w"], state["w"])
    assert back["f"] == state["f"]
    assert back["names"] == ["a"]
    assert run.checkpoints() == ["epoch-9", "epoch-10", "last"]
    files = {file.name for file in (run.path / "checkpoints").iterdir()}
    assert files == {"epoch-10.pt", "epoch-9.pt", "last.pt"}


def test_a_save_that_fails_keeps_the_old_checkpoint(run, monkeypatch):
    run.save_checkpoint({"n": 1})

    def killed(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(rundir.os, "replace", killed)
    with pytest.raises(InfoplaneError, match=r"Cannot write .*last\.pt: Input/output error"):
        run.save_checkpoint({"n": 2})
    assert run.load_checkpoint() == {"n": 1}
    assert len(list((run.path / "checkpoints").iterdir())) == 1


def test_checkpoint_errors(run):
    with pytest.raises(InfoplaneError, match=r"has no checkpoint 'last'. It has: none"):
        run.load_checkpoint()
    run.save_checkpoint({"w": torch.zeros(100)})
    with pytest.raises(InfoplaneError, match=r"has no checkpoint 'lost'. It has: last"):
        run.load_checkpoint("lost")
    file = run.path / "checkpoints" / "last.pt"
    whole = file.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"\0" * len(whole)):
        file.write_bytes(damaged)
        with pytest.raises(InfoplaneError, match=r"Cannot read .*last\.pt: it is damaged or no checkpoint of a run"):
            run.load_checkpoint()
    for name in ("", "../config", ".hidden", "a/b"):
        with pytest.raises(InfoplaneError, match="cannot name a checkpoint"):
            run.save_checkpoint({}, name)


def test_a_state_that_would_not_load_is_not_saved(run):
    with pytest.raises(
        InfoplaneError, match=r"it holds pathlib\.PosixPath, which weights_only=True does not read back"
    ):
        run.save_checkpoint({"path": Path("a")})
    with pytest.raises(InfoplaneError, match="Cannot save the checkpoint 'last': "):
        run.save_checkpoint({"f": lambda: None})
    assert run.checkpoints() == []


def test_nothing_is_unpickled(run):
    (run.path / "checkpoints").mkdir()
    torch.save({"f": builtins.eval}, run.path / "checkpoints" / "last.pt")
    with pytest.raises(InfoplaneError, match="damaged or no checkpoint of a run"):
        run.load_checkpoint()


# one writer

HOLD = """
import sys, time
from infoplane.runs.directory import RunDir
from infoplane.records import TABLES
PLACE = dict(run="a", epoch=0, step=0, replica=0, split="", path="")
run = RunDir.open(sys.argv[1])
run.append({"metrics": [TABLES["metrics"].row(PLACE)]})
print("ready", flush=True)
time.sleep(60)
"""

FORK = """
import os, sys, time
from infoplane.runs.directory import RunDir
from infoplane.records import TABLES
PLACE = dict(run="a", epoch=0, step=0, replica=0, split="", path="")
run = RunDir.open(sys.argv[1])
run.append({"metrics": [TABLES["metrics"].row(PLACE)]})
begun, begin = os.pipe()
child = os.fork()
if not child:
    os.write(begin, b"x")
    time.sleep(60)
os.read(begun, 1)
print("ready", flush=True)
print(child, flush=True)
time.sleep(60)
"""


def test_one_writer_and_any_number_of_readers(run):
    run.close()
    child = start(HOLD, run.path)
    reader = RunDir.open(run.path)
    assert reader.read("metrics").epoch.tolist() == [0]
    writes = [
        lambda: reader.append({"metrics": [metric(1)]}),
        lambda: reader.cut(0),
        lambda: reader.save_checkpoint({}),
        reader.mark_done,
        lambda: RunDir.create(run.path, {}, force=True),
    ]
    for write in writes:
        with pytest.raises(InfoplaneError, match=f"is being written by another process .pid {child.pid}"):
            write()
    end(child)
    reader.append({"metrics": [metric(1)]})
    assert reader.read("metrics").epoch.tolist() == [0, 1]
    reader.close()


def test_a_second_writer_in_the_same_process(run):
    second = RunDir.open(run.path)
    with pytest.raises(InfoplaneError, match=f"is being written by another process .pid {os.getpid()}"):
        second.mark_done()
    run.close()
    second.mark_done()
    with pytest.raises(InfoplaneError, match="is being written"):
        run.mark_done()
    del second  # what is forgotten gives its lock back too
    run.mark_done()


def test_a_forked_child_does_not_keep_the_lock(run):
    run.close()
    parent = start(FORK, run.path)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    try:
        with RunDir.open(run.path) as second:
            second.append({"metrics": [metric(1)]})
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()


# formats


def test_a_run_of_an_earlier_format_is_read_and_not_written_to(run):
    run.append({"metrics": [metric()]})
    run.close()
    config = json.loads((run.path / "config.json").read_text())
    del config["format"]
    (run.path / "config.json").write_text(json.dumps(config))
    old = RunDir.open(run.path)
    assert (old.format, run.format) == (1, FORMAT)
    assert len(old.read("metrics")) == 1
    before = {file: file.read_bytes() for file in run.path.iterdir()}
    for write in (lambda: old.append({"metrics": [metric(1)]}), lambda: old.cut(0), old.mark_done):
        with pytest.raises(InfoplaneError, match=r"earlier version of infoplane \(format 1; .*infoplane measure"):
            write()
    assert {file: file.read_bytes() for file in run.path.iterdir()} == before
    RunDir.create(run.path, {}, force=True).close()  # replaced it may be


@pytest.mark.parametrize("found", [FORMAT + 1, 0, "2", None])
def test_a_run_of_a_later_format_is_not_read(run, found):
    (run.path / "config.json").write_text(json.dumps({"format": found}))
    with pytest.raises(InfoplaneError, match=f"has format {found!r}; this version of infoplane reads formats 1 to"):
        RunDir.open(run.path)
