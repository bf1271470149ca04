"""Linear networks on Gaussian data: the closed forms, and the run that reads its network."""

from __future__ import annotations

import math

import pytest
import torch
from matplotlib import pyplot as plt

import infoplane as ip
from infoplane.data.student_teacher import student_teacher
from infoplane.errors import InfoplaneError
from infoplane.estimators.linear import LinearGaussian
from infoplane.runs.settings import Settings
from infoplane.runs.training import Training, recorder_of
from infoplane.theory.linear import (
    LinearTask,
    generalisation_error,
    input_information,
    label_ceiling,
    label_information,
    subset_information,
)

DOUBLE = torch.float64


def random_task(seed: int, inputs: int = 5, outputs: int = 2) -> LinearTask:
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(inputs, inputs, generator=g, dtype=DOUBLE)
    return LinearTask(root @ root.T, torch.randn(outputs, inputs, generator=g, dtype=DOUBLE), 0.3)


def entropy_form(joint: torch.Tensor, a: list[int], b: list[int]) -> float:
    """I(A;B) of a Gaussian from its joint covariance: h(A) + h(B) - h(A, B)."""
    return 0.5 * float(joint[a][:, a].logdet() + joint[b][:, b].logdet() - joint[a + b][:, a + b].logdet())


@pytest.mark.parametrize("seed", range(5))
def test_the_closed_forms_are_those_of_the_joint_gaussian(seed):
    task = random_task(seed)
    w = torch.randn(3, 5, generator=torch.Generator().manual_seed(100 + seed), dtype=DOUBLE)
    s2 = 0.7
    # everything is a linear map of (x, noise of T, noise of y)
    both = torch.block_diag(task.covariance, s2 * torch.eye(3, dtype=DOUBLE), 0.3 * torch.eye(2, dtype=DOUBLE))
    rows = [torch.eye(5, dtype=DOUBLE), w, task.teacher]
    tails = [torch.zeros(5, 5), torch.eye(3, 5), torch.eye(5)[3:]]
    m = torch.cat([torch.cat([r, t.to(DOUBLE)], 1) for r, t in zip(rows, tails, strict=True)])
    joint = m @ both @ m.T
    x, t, y = list(range(5)), [5, 6, 7], [8, 9]
    assert float(input_information(w, task.covariance, s2)) == pytest.approx(entropy_form(joint, t, x), abs=1e-9)
    assert float(label_information(w, task, s2)) == pytest.approx(entropy_form(joint, t, y), abs=1e-9)
    assert float(label_ceiling(task)) == pytest.approx(entropy_form(joint, x, y), abs=1e-9)
    some = torch.tensor([1, 3])
    expected = entropy_form(joint, t, [1, 3])
    assert float(subset_information(w, task.covariance, s2, some)) == pytest.approx(expected, abs=1e-9)


def test_the_generalisation_error_is_that_of_a_sample():
    points = student_teacher()
    v = torch.randn(1, 100, generator=torch.Generator().manual_seed(1))
    errors = (points.y - points.x @ v.T).square().sum(1)
    stderr = float(errors.std()) / math.sqrt(len(errors))
    assert float(generalisation_error(v, points.law)) == pytest.approx(float(errors.mean()), abs=4 * stderr)
    assert float(generalisation_error(points.law.teacher, points.law)) == pytest.approx(0.2)


def test_irrelevant_inputs_say_nothing_of_the_label_and_cost_no_signal():
    points, plain = student_teacher(irrelevant=70), student_teacher()
    law, last = points.law, torch.arange(30, 100)
    assert float(subset_information(law.teacher, law.covariance, 0.2, last)) == pytest.approx(0.0, abs=1e-12)
    correlation = torch.corrcoef(torch.cat([points.x, points.y], 1).T)[-1, last]
    assert float(correlation.abs().max()) < 5 / math.sqrt(len(points.x))
    # a sum of 30 squares of normal weights in place of 100
    signals = torch.tensor(
        [float(student_teacher(irrelevant=70, seed=s).law.teacher.square().sum()) for s in range(20)]
    )
    assert float(signals.mean()) == pytest.approx(100, abs=4 * 100 * math.sqrt(2 / 30 / 20))
    assert plain.x.equal(points.x)
    with pytest.raises(InfoplaneError, match="irrelevant=100, with 100 inputs; expected 0 to 99"):
        student_teacher(irrelevant=100)


def test_a_run_has_the_information_of_its_weights():
    settings = Settings.of(dataset="student-teacher", widths=(20, 7), replicas=2, epochs=3)
    training = Training.start(settings, torch.device("cpu"))
    for _ in range(3):
        training.run_epoch()
    recorder = recorder_of(training)
    recorder.snapshot(3)
    rows = {(m.layer, m.quantity, m.replica): m for m in recorder.frame().itertuples()}
    net, law = training.model, training.task.law
    for r in range(2):
        w = torch.eye(100, dtype=DOUBLE)
        for name, linear in (("hidden1", net.hidden1.linear), ("hidden2", net.hidden2.linear), ("output", net.output)):
            w = linear.weight[r].detach().double() @ w
            of_input, of_label = rows[name, "I(X;T)", r], rows[name, "I(T;Y)", r]
            assert of_input.value_nats == pytest.approx(
                float(input_information(w, law.covariance, 1.0)), abs=of_input.error_nats
            )
            assert of_label.value_nats == pytest.approx(float(label_information(w, law, 1.0)), abs=of_label.error_nats)
            assert of_input.standing == of_label.standing == "exact"
            assert of_input.law == "population"
            assert of_label.value_nats <= of_label.ceiling_nats


def linear_rows(net: torch.nn.Module, x: torch.Tensor, law: LinearTask) -> dict[str, object]:
    recorder = ip.Recorder(net, (x,), estimators=[LinearGaussian(1e-4, law)])
    recorder.snapshot(0)
    return {m.layer: m for m in recorder.frame().itertuples() if m.quantity == "I(X;T)"}


def test_a_large_bias_hides_neither_the_map_nor_that_there_is_none(seeded):
    """In float32 the first bias would hide the digits of the map, and the second nearly so."""
    law, x = random_task(0), torch.randn(64, 5, generator=seeded(3))
    straight = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Linear(3, 2))
    bent = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    with torch.no_grad():
        for p in (*straight.parameters(), *bent.parameters()):
            p.normal_(generator=seeded(4))
        straight[0].weight *= 1e-3
        straight[0].bias += 1e4
        bent[2].bias += 1e6
    rows, w = linear_rows(straight, x, law), straight[0].weight.detach().double()
    assert rows["0"].value_nats == pytest.approx(
        float(input_information(w, law.covariance, 1e-4)), abs=rows["0"].error_nats
    )
    assert rows["0"].standing == rows["1"].standing == "exact"
    rows = linear_rows(bent, x, law)
    assert rows["0"].standing == "exact"
    assert rows["1"].warnings == rows["2"].warnings == "not-linear"


@pytest.mark.parametrize("options", [{"activation": "tanh"}, {"echo_at": (1,), "batch_size": 100}])
def test_a_layer_that_is_not_linear_or_is_noisy_has_no_closed_form(options):
    training = Training.start(
        Settings.of(dataset="student-teacher", widths=(8,), replicas=1, epochs=1, **options), torch.device("cpu")
    )
    recorder = recorder_of(training)
    recorder.snapshot(0)
    for m in recorder.frame().itertuples():
        if m.estimator == "linear" and (m.layer != "output" or "echo_at" in options):
            assert math.isnan(m.value_nats)
            assert m.standing == "estimate"
            assert m.warnings == "not-linear"


def test_what_has_no_law_or_no_noise_is_refused():
    with pytest.raises(InfoplaneError, match="student-teacher"):
        recorder_of(Training.start(Settings(replicas=1, epochs=1), torch.device("cpu")), estimators=["linear"])
    with pytest.raises(InfoplaneError, match="expected a finite number above 0"):
        LinearGaussian(noise_variance=0.0)
    with pytest.raises(InfoplaneError, match="infinite"):
        input_information(torch.eye(2), torch.eye(2), 0.0)
    with pytest.raises(InfoplaneError, match=r"\(\.\.\., K, D\)"):
        input_information(torch.eye(2), torch.eye(3), 1.0)


def test_a_regression_has_a_gap_in_loss_only(tmp_path):
    settings = Settings.of(dataset="student-teacher", widths=(10,), replicas=2, epochs=2)
    run = ip.train(settings, str(tmp_path / "run"), progress=False)
    metrics = run.read("metrics")
    assert set(metrics["objective"]) == {"squared error"}
    assert metrics["error"].isna().all()
    assert metrics["loss"].notna().all()
    figure = ip.plot.PLOTS["loss"].draw(metrics, unit="bits")
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss [squared error]"]
    drawn = figure.axes[0].lines[0].get_ydata()
    means = metrics[metrics["split"] == "train"].groupby("epoch")["loss"].mean()
    assert list(drawn) == pytest.approx(list(means))  # in no unit of information
    table = ip.plot.PLOTS["gap"].draw(run.read("measurements"), metrics, estimator="linear", layers=["output"])
    assert "squared error" in table.axes[0].get_ylabel()
    mixed = metrics.assign(objective=["cross-entropy"] + ["squared error"] * (len(metrics) - 1))
    with pytest.raises(InfoplaneError, match="the same loss"):
        ip.plot.PLOTS["loss"].draw(mixed)
    plane = ip.plot.PLOTS["plane"].draw(run.read("measurements"))
    assert any("I(X;Y)" in t.get_text() for t in plane.axes[0].texts)
    for f in (figure, table, plane):
        plt.close(f)
