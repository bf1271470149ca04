"""A trace reads the outputs of layers, and leaves nothing behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import infoplane as ip
from infoplane.errors import InfoplaneError


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_taps_read_copies_of_what_the_layers_gave(handwritten, bits):
    x, _ = bits
    expected = handwritten.encoder(x)
    with ip.Trace(handwritten, ["encoder", "act", "middle"]) as trace:
        handwritten(x)
        read = trace.take()
        handwritten(x[:5])
        assert trace.take()["act"].shape == (5, 8)
    # the activation is in place, and must not change what was read from `encoder`
    assert torch.equal(read["encoder"], expected)
    assert torch.equal(read["act"], expected.relu())
    assert read["middle"].shape == (300, 6)  # the first tensor of a tuple
    assert not read["act"].requires_grad


def test_a_tap_on_a_layer_with_echo_reads_f_and_its_echo_gives_z(handwritten, bits):
    x, _ = bits
    model = ip.insert_echo(handwritten, after=["act"], example=x[:2])
    with ip.Trace(model, ["act", "act.echo"]) as trace:
        model(x)
        read = trace.take()
    assert torch.equal(read["act"], handwritten.encoder(x).relu())
    assert not torch.equal(read["act"], read["act.echo"])


@pytest.mark.parametrize("how", ["normally", "raising", "bad name"])
def test_no_hook_is_left(handwritten, bits, how):
    x, _ = bits
    before = hooks(handwritten)
    if how == "normally":
        with ip.Trace(handwritten, ["act"]) as trace:
            handwritten(x)
            trace.take()
    elif how == "raising":
        with pytest.raises(RuntimeError), ip.Trace(handwritten, ["act"]):
            handwritten(x[:, :3])
    else:
        with pytest.raises(InfoplaneError, match="Did you mean 'middle'"):
            ip.Trace(handwritten, ["midle"])
    assert hooks(handwritten) == before


def test_a_tap_that_never_fired_and_one_that_fired_twice_say_so(handwritten, bits):
    x, _ = bits
    with ip.Trace(handwritten, ["unused"]) as trace:
        handwritten(x)
        with pytest.raises(ip.recording.TraceError, match="'unused' did not run"):
            trace.take()
    shared = nn.Sequential(nn.Linear(12, 12), nn.Tanh())
    shared.append(shared[1])
    with ip.Trace(shared, ["1"]) as trace:
        shared(x)
        with pytest.raises(ip.recording.TraceError, match="ran 2 times"):
            trace.take()


def test_what_was_read_is_taken_inside_the_block_only(handwritten, bits):
    """Outside the block, the message names the block, and does not say that a layer did not run."""
    x, _ = bits
    trace = ip.Trace(handwritten, ["act"])
    expected = (
        r"^Trace\.take\(\) was called outside the `with` block.* Call it inside the block, after the forward pass\.$"
    )
    with pytest.raises(ip.recording.TraceError, match=expected):
        trace.take()
    with trace:
        handwritten(x)
    with pytest.raises(ip.recording.TraceError, match=expected):
        trace.take()
    with trace:  # and a second block reads again
        handwritten(x)
        assert trace.take()["act"].shape == (300, 8)


def test_maps_are_flattened_and_half_precision_is_raised():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    with ip.Trace(model, ["0"]) as trace, torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.zeros(4, 1, 5, 5))
        read = trace.take()["0"]
    assert read.shape == (4, 18)
    assert read.dtype == torch.float32
    with ip.Trace(model, ["0"], reduce=lambda t: t.mean((2, 3))) as trace:
        model(torch.zeros(4, 1, 5, 5))
        assert trace.take()["0"].shape == (4, 2)
