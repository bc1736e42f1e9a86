"""Guidance: what it computes, and that nothing is computed where it does not act."""

import pytest
import torch

from unite.flow.guidance import GuidedPredictor

NULL = 3
LABELS = torch.tensor([0, 1, 2, NULL])
Z = torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(0))


class Recorder:
    """z_hat depends on z, t and the label of a row; the calls are kept."""

    def __init__(self):
        self.calls = []

    def __call__(self, z, t_B, labels_B, rows_B):
        assert len(z) == len(t_B) == len(labels_B) == len(rows_B)
        self.calls.append((t_B, labels_B, rows_B))
        return expected(z, t_B, labels_B)


def expected(z, t_B, labels_B):
    return torch.sin(z + t_B[:, None, None]) * (1 + labels_B)[:, None, None]


def predictor(scale, interval=(0.1, 1.0), labels=LABELS):
    recorder = Recorder()
    return GuidedPredictor(recorder, labels, NULL, scale, interval), recorder


def test_scale_one_is_conditional():
    guided, recorder = predictor(1.0)
    t = torch.full((4,), 0.5)
    assert torch.equal(guided(Z, t), expected(Z, t, LABELS))
    assert len(recorder.calls) == 1 and len(recorder.calls[0][1]) == 4
    assert guided.network_rows_B.tolist() == [1, 1, 1, 1]


def test_guidance_extrapolates_in_one_forward():
    guided, recorder = predictor(2.5)
    t = torch.full((4,), 0.5)
    conditional, unconditional = expected(Z, t, LABELS), expected(Z, t, torch.full((4,), NULL))
    torch.testing.assert_close(guided(Z, t), unconditional + 2.5 * (conditional - unconditional))
    assert len(recorder.calls) == 1
    # The null-class sample has nothing to be guided by.
    assert recorder.calls[0][1].tolist() == [0, 1, 2, NULL, NULL, NULL, NULL]
    assert recorder.calls[0][2].tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert guided.network_rows_B.tolist() == [2, 2, 2, 1]


def test_only_rows_strictly_inside_the_interval_are_doubled():
    guided, recorder = predictor(2.0, interval=(0.1, 0.9), labels=torch.tensor([0, 1, 2, 0]))
    t = torch.tensor([0.1, 0.5, 0.9, 0.05])
    z_hat = guided(Z, t)
    plain = expected(Z, t, torch.tensor([0, 1, 2, 0]))
    assert torch.equal(z_hat[[0, 2, 3]], plain[[0, 2, 3]])
    assert not torch.allclose(z_hat[1], plain[1])
    assert recorder.calls[0][2].tolist() == [0, 1, 2, 3, 1]
    assert guided.network_rows_B.tolist() == [1, 2, 1, 1]


def test_an_interval_from_zero_includes_zero():
    guided, _ = predictor(2.0, interval=(0.0, 1.0))
    guided(Z, torch.tensor([0.0, 1.0, 0.5, 0.0]))
    assert guided.network_rows_B.tolist() == [2, 1, 2, 1]


def test_rows_select_labels():
    guided, recorder = predictor(2.0)
    guided(Z[[2, 0]], torch.tensor([0.5, 0.0]), torch.tensor([2, 0]))
    assert recorder.calls[0][1].tolist() == [2, 0, NULL]
    assert guided.network_rows_B.tolist() == [1, 0, 2, 0]


def test_low_precision_predictions_keep_the_state_dtype():
    guided = GuidedPredictor(lambda z, *_: z.bfloat16(), LABELS, NULL, 2.0, (0.0, 1.0))
    assert guided(Z, torch.full((4,), 0.5)).dtype == Z.dtype


@pytest.mark.parametrize("interval", [(0.9, 0.1), (-0.1, 1.0), (0.0, 1.5)])
def test_bad_intervals_are_refused(interval):
    with pytest.raises(ValueError, match="cfg_interval"):
        predictor(2.0, interval)
