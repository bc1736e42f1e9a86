import io

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric

from unite.evaluation.images.features import ExtractorId, metric_name
from unite.evaluation.images.reference import Origin, Reference
from unite.metrics.errors import MetricError
from unite.metrics.fidelity import FidelityPlan, FidelityStatistics, fidelity_metrics
from unite.metrics.inception_score import ScoreSums

WIDTH, CLASSES = 6, 5
OTHER = ExtractorId(name="toy", digest="1" * 64, resize="none")


def made(total: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(total, WIDTH, generator=generator)
    return features, 3 * torch.randn(total, CLASSES, generator=generator)


def count(
    plan: FidelityPlan, seed: int = 0, chunk: int = 10, batch: int = 4
) -> list[FidelityStatistics]:
    """Statistics of each chunk of indices, counted in batches."""
    features, logits = made(plan.total, seed)
    chunks = []
    for start in range(0, plan.total, chunk):
        statistics = FidelityStatistics.zeros(plan)
        for indices in torch.arange(start, min(start + chunk, plan.total)).split(batch):
            given = logits[indices] if plan.num_classes else None
            statistics.update(indices.numpy(), features[indices], given)
        chunks.append(statistics)
    return chunks


def plan_of(total: int, **changes) -> FidelityPlan:
    return FidelityPlan(total=total, num_features=WIDTH, num_classes=CLASSES, **changes)


def added(plan: FidelityPlan, chunks: list[FidelityStatistics]) -> FidelityStatistics:
    """Sum of complete chunks, as the driver adds them."""
    statistics = FidelityStatistics.zeros(plan)
    for chunk in chunks:
        statistics.merge(chunk.to_arrays())
    statistics.check_complete()
    return statistics


def reference_of(plan: FidelityPlan, seed: int, extractor: ExtractorId = OTHER) -> Reference:
    return Reference.of(added(plan, count(plan, seed)), extractor, Origin())


def against(reference: Reference, statistics: FidelityStatistics) -> dict[str, float]:
    return fidelity_metrics(statistics, reference.gaussian, reference.kept_features)


def test_a_plan_is_of_one_sample_and_one_split_at_least():
    assert plan_of(1, splits=1).split.tolist() == [0]
    for fields in ({"total": 0}, {"total": 5, "splits": 0}):
        with pytest.raises(MetricError, match="both must be positive"):
            plan_of(**fields)


@pytest.mark.parametrize("total", [10, 97, 200])
def test_inception_score_is_that_of_torch_fidelity(total):
    plan = plan_of(total)
    statistics = added(plan, count(plan))
    theirs = isc_features_to_metric(made(total)[1])
    mean, std = statistics.scores.result()
    assert mean == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    assert std == pytest.approx(theirs["inception_score_std"], rel=1e-9, abs=1e-12)


def test_inception_score_of_certain_predictions_is_the_number_of_classes():
    sums = ScoreSums.zeros(1, 4)
    sums.update(torch.zeros(8, dtype=torch.long), 1000.0 * torch.eye(4).repeat(2, 1))
    assert sums.result()[0] == pytest.approx(4.0)


def test_inception_score_needs_a_sample_in_each_split():
    plan = plan_of(9)
    with pytest.raises(MetricError, match="9 samples do not fill 10 splits"):
        added(plan, count(plan)).scores.result()


def test_distance_is_that_of_torch_fidelity():
    plan = plan_of(120)
    found = against(reference_of(plan_of(150), 1), added(plan, count(plan)))
    sides = [
        fid_features_to_statistics(made(120)[0].double()),
        fid_features_to_statistics(made(150, 1)[0].double()),
    ]
    theirs = fid_statistics_to_metric(*sides, verbose=False)["frechet_inception_distance"]
    assert found["fid"] == pytest.approx(theirs, rel=1e-9)


def test_metrics_are_named_for_their_extractor():
    plan = plan_of(60)
    statistics = added(plan, count(plan))
    toy = against(reference_of(plan_of(70), 1), statistics)
    assert {metric_name(OTHER, name) for name in (*toy, "kid_std")} == {
        "fd-toy",
        "cs-toy",
        "cs_std-toy",
        "kd-toy",
        "kd_std-toy",
        "precision-toy",
        "recall-toy",
        "density-toy",
        "coverage-toy",
    }


def test_only_what_can_be_had_is_reported():
    plan = FidelityPlan(total=40, num_features=WIDTH)
    statistics = added(plan, count(plan))
    reference = reference_of(FidelityPlan(total=50, num_features=WIDTH), 1)
    bare = Reference(
        mu_F=reference.mu_F,
        sigma_FF=reference.sigma_FF,
        num=50,
        extractor=OTHER,
        made=Origin(),
    )
    assert set(against(bare, statistics)) == {"fid"}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_bits_do_not_depend_on_the_number_of_workers(workers):
    """Each worker takes every n-th chunk; results arrive through npz files, in no order."""
    plan = plan_of(95, keep=30)
    reference = reference_of(plan_of(80, keep=40), 1)
    expected = against(reference, added(plan, count(plan)))
    stored = {}
    for worker in range(workers):
        for number, chunk in enumerate(count(plan)):
            if number % workers == worker:
                buffer = io.BytesIO()
                np.savez(buffer, **chunk.to_arrays())
                stored[number] = buffer.getvalue()
    statistics = FidelityStatistics.zeros(plan)
    for number in sorted(stored):
        with np.load(io.BytesIO(stored[number]), allow_pickle=False) as arrays:
            statistics.merge(dict(arrays))
    statistics.check_complete()
    assert against(reference, statistics) == expected


def test_metrics_do_not_depend_on_batch_and_chunk_size():
    plan = plan_of(95, keep=30)
    reference = reference_of(plan_of(80, keep=40), 1)
    whole = against(reference, added(plan, count(plan, 0, 95, 95)))
    for chunk, batch in ((10, 4), (33, 1), (1, 1)):
        parts = added(plan, count(plan, 0, chunk, batch))
        assert against(reference, parts) == pytest.approx(whole, rel=1e-9)


def test_kept_samples_follow_from_the_index_alone():
    plan = plan_of(95, keep=30)
    indices, features = added(plan, count(plan)).kept()
    assert len(indices) == 30
    assert np.array_equal(indices, np.sort(indices))
    assert np.array_equal(features, made(95)[0].numpy()[indices])
    assert np.array_equal(indices, added(plan, count(plan, 0, 95)).kept()[0])
    everything = added(plan_of(20), count(plan_of(20))).kept()
    assert np.array_equal(everything[0], np.arange(20))


def test_splits_are_even_and_shuffled():
    split = plan_of(50).split
    assert np.bincount(split).tolist() == [5] * 10
    assert not np.array_equal(split, np.sort(split))


def test_every_index_is_counted_exactly_once():
    plan = plan_of(40)
    chunks = count(plan)
    with pytest.raises(MetricError, match=r"10 were not counted \(first: \[10, 11, 12\]\)"):
        added(plan, [chunks[0], *chunks[2:]])
    with pytest.raises(MetricError, match=r"10 more than once \(first: \[0, 1, 2\]\)"):
        added(plan, [chunks[0], *chunks])
    with pytest.raises(MetricError, match="38..40 lie outside of 0..39"):
        FidelityStatistics.zeros(plan).update(np.array([38, 40]), *(x[:2] for x in made(2)))


def test_wrong_input_is_refused():
    plan = plan_of(40)
    features, logits = made(4)
    statistics = FidelityStatistics.zeros(plan)
    with pytest.raises(MetricError, match="3 indices for 4 rows"):
        statistics.update(np.arange(3), features, logits)
    with pytest.raises(MetricError, match="logits must be given"):
        statistics.update(np.arange(4), features)
    with pytest.raises(MetricError, match=r"\(4, 2\), not \(samples, 6\)"):
        statistics.update(np.arange(4), features[:, :2], logits)
    with pytest.raises(MetricError, match=r"40..40 lie outside of 0..39"):
        statistics.merge(count(plan_of(41))[-1].to_arrays())
    with pytest.raises(MetricError, match="6 and 7 features cannot be added"):
        other = FidelityPlan(total=40, num_features=7, num_classes=CLASSES)
        FidelityStatistics.zeros(other).merge(count(plan)[0].to_arrays())
    with pytest.raises(MetricError, match="holds no scores"):
        bare = FidelityPlan(total=40, num_features=WIDTH)
        FidelityStatistics.zeros(plan).merge(count(bare)[0].to_arrays())
    with pytest.raises(MetricError, match="must be positive"):
        plan_of(0)


@pytest.mark.parametrize(("total", "spreads"), [(1000, False), (1001, True)])
def test_kid_has_a_spread_where_its_subsets_differ(total, spreads):
    """A hundred times all samples were told to have a spread of 1e-16."""
    plan = plan_of(total)
    statistics = added(plan, count(plan, chunk=500, batch=500))
    real = added(plan, count(plan, seed=1, chunk=500, batch=500))
    values = fidelity_metrics(statistics, real.result(), real.kept()[1])
    assert ("kid_std" in values) == spreads
    assert not spreads or values["kid_std"] > 1e-9
