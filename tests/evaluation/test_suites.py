"""Every suite on the tiny run, in this process, against an independent computation where one is
cheap."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from unite.checkpoints.load import load
from unite.config.recipes import recipe
from unite.data.loader import sequential_batches
from unite.data.shards import ShardSet
from unite.domains.columns import IMAGES
from unite.drivers.session import make_worker
from unite.evaluation.chunks import partition
from unite.evaluation.drawing import num_samples
from unite.evaluation.instruments import Instruments
from unite.evaluation.report import cells, markdown, print_outcomes
from unite.evaluation.results import read_outcomes
from unite.evaluation.suite import read_chunks, work_items
from unite.evaluation.suites.alignment import both_passes
from unite.metrics.frechet import frechet_distance
from unite.metrics.moments import MetricError
from unite.metrics.pathways import AlignmentSums
from unite.sampling.generator import draw
from unite.sampling.seeds import sample_seeds
from unite.tracking.results import RESULT_NAME
from unite.training.evaluation import evaluate_reconstruction, reconstruct
from unite.training.parallelize import World


def value(outcome, metric):
    (row,) = [row for row in outcome.rows if row.card.metric == metric]
    return row.card.value


@pytest.fixture
def tiny(storage):
    return load(str(storage / "tiny"))


@pytest.fixture
def data(storage):
    return str(storage / "data" / "digits")


@pytest.fixture(scope="session")
def pixels(storage):
    """All training digits, float64 (N, 64) in [0, 1]."""
    domain = load(str(storage / "tiny")).domain
    shards = ShardSet.open(str(storage / "data" / "digits"), "train", IMAGES)
    batches = list(sequential_batches(shards, domain, batch_size=500))
    return np.concatenate([b.fields["image"] for b in batches]).reshape(-1, 64) / 255


def test_generation_measures_the_samples_that_its_seeds_make(run_suites, request_of, tiny, pixels):
    (outcome,) = run_suites("generation")
    settings = request_of().target.subject.config.sampling
    indices = torch.arange(100)
    samples = draw(tiny, indices % 10, settings, seeds_B=sample_seeds(0, indices))
    drawn = tiny.domain.render(samples.reconstruction).reshape(100, -1).numpy() / 255
    expected = frechet_distance(
        drawn.mean(axis=0), np.cov(drawn.T), pixels.mean(axis=0), np.cov(pixels.T)
    )
    assert value(outcome, "fd-pixels") == pytest.approx(expected, rel=1e-6)
    assert value(outcome, "nfe") == samples.nfe_B.double().mean()
    assert value(outcome, "passes") == samples.network_rows_B.double().mean()
    card = next(row.card for row in outcome.rows if row.card.metric == "fd-pixels")
    assert (card.solver, card.num_steps, card.cfg_scale) == ("euler", 4, 1.5)
    assert (card.label_sampling, card.num_samples, card.step) == ("balanced", 100, 256)
    assert card.reference
    assert "1,500 images" in card.reference_made


def the_suite(evaluation):
    """The generation suite of an evaluation whose reference exists by now."""
    (suite,) = replace(
        evaluation, suites=[s for s in evaluation.suites if s.suite == "generation"]
    ).suites
    return suite.prepared(never)


def never(title, works):
    raise AssertionError(f"{title} should have been there")


def test_uniform_labels_depend_on_the_index_alone(request_of, run_suites):
    run_suites("generation")
    suite = replace(the_suite(request_of()), labels="uniform")
    whole = suite._labels(torch.arange(100), 10)
    assert torch.equal(suite._labels(torch.arange(40, 60), 10), whole[40:60])
    assert len(whole.unique()) > 5


def test_a_finished_evaluation_computes_nothing(run_suites, monkeypatch):
    first = run_suites("generation", "entropy")
    monkeypatch.setattr("unite.evaluation.suite.write_chunk", never)
    monkeypatch.setattr("unite.evaluation.drawing.draw", never)
    second = run_suites("generation", "entropy")
    assert [row.card for o in first for row in o.rows] == [
        row.card for o in second for row in o.rows
    ]


def test_missing_chunks_alone_are_computed_again(request_of, run_suites, monkeypatch):
    (before,) = run_suites("generation", seed=3)
    suite = replace(the_suite(request_of()), seed=3)
    lost = suite.chunks()[1]
    suite.folder.delete(f"chunks/{lost}.npz")
    computed = []
    monkeypatch.setattr(type(suite), "measure", noting(type(suite).measure, computed))
    (after,) = run_suites("generation", seed=3)
    assert computed == [lost]
    assert value(after, "fd-pixels") == value(before, "fd-pixels")


def noting(measure, computed):
    def measured(self, instruments, chunk):
        computed.append(chunk)
        return measure(self, instruments, chunk)

    return measured


def test_a_repeated_or_missing_chunk_is_never_counted(request_of, run_suites):
    run_suites("generation")
    suite = the_suite(request_of())
    chunks = read_chunks(suite)
    with pytest.raises(MetricError, match="more than once"):
        suite.combine([*chunks[:-1], chunks[0]])
    with pytest.raises(MetricError, match="4 results for 3 chunks"):
        suite.combine([*chunks, chunks[0]])


def test_cards_say_how_the_real_images_were_stored(run_suites):
    """The built-in digits are PNG; statistics of somebody else's images are of unknown ones."""
    cards = [row.card for o in run_suites("generation", "reconstruction") for row in o.rows]
    by_name = {card.metric: card for card in cards}
    assert by_name["fd-pixels"].reference_encoding == "png"
    assert by_name["rfd-pixels"].reference_encoding == "png"
    assert by_name["nfe"].reference_encoding == ""


def test_reconstruction_agrees_with_the_evaluation_during_training(run_suites, tiny, data):
    (outcome,) = run_suites("reconstruction")
    shards = ShardSet.open(data, "eval", IMAGES)
    batches = sequential_batches(shards, tiny.domain, batch_size=100)
    trained = evaluate_reconstruction(tiny, batches, World(), 0)
    assert value(outcome, "psnr") == pytest.approx(trained["eval/psnr"], rel=1e-5)
    assert value(outcome, "l1") == pytest.approx(trained["eval/l1"], rel=1e-5)
    assert value(outcome, "rfd-pixels") > 0
    assert outcome.files["reconstructions.png"].startswith(b"\x89PNG")
    assert "under 16 pixels" in outcome.remarks[0]


def test_the_8_bit_means_are_of_the_pictures(run_suites, tiny, data):
    """Against plain numpy on truncated pictures of the same reconstructions."""
    (outcome,) = run_suites("reconstruction")
    decibels, errors = [], []
    for batch in sequential_batches(
        ShardSet.open(data, "eval", IMAGES), tiny.domain, batch_size=100
    ):
        image_BHWC = torch.from_numpy(batch.fields["image"])
        sample, _ = tiny.domain.to_sample({"image": image_BHWC, **labels_of(batch)})
        recon = reconstruct(tiny, sample, torch.as_tensor(batch.rows_B), 0)
        pixels = (recon.clamp(0, 1) * 255).permute(0, 2, 3, 1).numpy().astype(np.uint8)
        error = pixels.astype(float) - image_BHWC.numpy().astype(float)
        decibels += list(20 * np.log10(255 / np.sqrt((error**2).mean((1, 2, 3)))))
        errors += list(np.abs(error).mean((1, 2, 3)) / 255)
    assert value(outcome, "psnr_8bit") == pytest.approx(np.mean(decibels), rel=1e-4)
    assert value(outcome, "l1_8bit") == pytest.approx(np.mean(errors), rel=1e-4)
    card = next(row.card for row in outcome.rows if row.card.metric == "psnr_8bit")
    assert card.uint8_rule and card.details["image_range"] == "0..1, of 8 bits"


def labels_of(batch):
    return {name: torch.from_numpy(v) for name, v in batch.fields.items() if name != "image"}


def test_alignment_of_chunks_is_alignment_of_the_whole(run_suites, request_of, tiny, data):
    (outcome,) = run_suites("alignment")
    target = request_of().target
    (suite,) = request_of(suite=("alignment",)).suites
    sums = AlignmentSums(suite.config)
    domain = target.subject.config.domain
    (whole,) = partition("alignment", 297, 1)
    for rows in Instruments().rows(target.held_out, domain, whole):
        sums.update(rows.rows_B, *both_passes(sums.config, tiny, rows))
    for name, expected in sums.result().summary().items():
        assert value(outcome, name) == pytest.approx(expected, rel=1e-6)
    found = json.loads(outcome.files["alignment.json"])
    for name in ("cka", "cknna", "cosine", "latent_cosine"):
        expected = getattr(sums.result(), name)
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, err_msg=name)
    assert np.shape(found["cka"]) == (5, 2), "levels, blocks"
    assert len(suite.chunks()) == 10, "two parts of each level"
    assert {"alignment.png", "alignment.svg", "alignment.json"} <= set(outcome.files)


def test_the_small_suites_say_what_they_measured(run_suites):
    outcomes = {o.suite: o for o in run_suites("trajectory", "entropy", "probe", "compute")}
    assert value(outcomes["trajectory"], "psnr_z0") > 0
    assert outcomes["trajectory"].files["trajectory.png"].startswith(b"\x89PNG")
    entropy = outcomes["entropy"]
    assert value(entropy, "total_mb") == pytest.approx(
        sum(value(entropy, f"{group}_mb") for group in ("norm", "functional", "other"))
    )
    assert "2048 bins" in entropy.protocol
    assert value(outcomes["probe"], "top1_pct") <= value(outcomes["probe"], "top5_pct") <= 100
    compute = outcomes["compute"]
    assert value(compute, "epochs") == pytest.approx(256 / 1500)
    assert value(compute, "params_m") == pytest.approx(
        sum(value(compute, f"params_{part}_m") for part in ("embedder", "tokenizer", "decoder"))
    )
    assert any("throughput" in remark for remark in compute.remarks)


def test_results_and_report_are_written(run_suites, request_of, capsys):
    outcomes = run_suites("generation", "entropy")
    home = request_of().home
    kept = {outcome.suite: outcome for outcome in read_outcomes(home)}
    assert [kept[outcome.suite] for outcome in outcomes] == outcomes
    run_suites("compute")
    assert kept.keys() | {"compute"} == {outcome.suite for outcome in read_outcomes(home)}
    report = home.read("report.md").decode()
    assert report == markdown(read_outcomes(home))
    assert "FD-pixels" in report
    assert "2.12 (Table 1)" in report
    print_outcomes(outcomes)
    text = capsys.readouterr().out
    assert "FD-pixels" in text
    assert "euler, 4 steps, guidance 1.5" in text


def test_every_number_has_a_name_that_tracking_takes(run_suites):
    for outcome in run_suites():
        for row in outcome.rows:
            assert RESULT_NAME.fullmatch(f"eval/{outcome.suite}/{row.card.metric}")
            assert len(cells(row)) == 5
            json.dumps(row.to_dict())


def test_the_sweep_leaves_generation_at_its_best_scale(run_suites, request_of):
    sweep, generation = run_suites("generation", cfg_adaptive=True)
    best = value(sweep, "best_cfg_scale")
    assert {row.card.cfg_scale for row in generation.rows} == {best}
    found = json.loads(sweep.files["cfg_sweep.json"])
    assert found["scales"][found["best"]] == best
    assert value(generation, "fd-pixels") == pytest.approx(
        found["distances"][str(found["best"])], rel=1e-9
    )


def test_adaptive_steps_are_per_sample_and_the_card_says_so(run_suites):
    (outcome,) = run_suites("generation", solver="dopri5", num_samples=20)
    card = outcome.rows[0].card
    assert (card.solver, card.num_steps, card.step_control) == ("dopri5", 0, "per sample")
    assert (card.atol, card.rtol) == (1e-6, 1e-3)
    assert card.nfe > 4


def test_the_precision_stands_on_the_card(run_suites):
    (exact,) = run_suites("reconstruction")
    (rounded,) = run_suites("reconstruction", precision="bfloat16")
    assert {row.card.precision for row in rounded.rows} == {"bfloat16"}
    assert value(rounded, "psnr") == pytest.approx(value(exact, "psnr"), rel=0.05)
    assert value(rounded, "psnr") != value(exact, "psnr")


def test_the_default_number_of_samples_follows_the_data(request_of):
    evaluation = request_of(num_samples=0)
    assert num_samples(evaluation.arguments, evaluation.target) == 3000


def test_nan_samples_are_refused_with_their_index(request_of, run_suites, monkeypatch):
    run_suites("generation")
    suite = the_suite(request_of())
    instruments = Instruments()
    model = suite.model(instruments)
    monkeypatch.setattr(model, "decode", lambda z, mask=None: torch.full((len(z), 1, 8, 8), np.nan))
    with pytest.raises(MetricError, match="NaN or infinite values, first sample 0"):
        suite.measure(instruments, suite.chunks()[0])


def test_workers_of_one_process_reuse_their_model(request_of, run_suites):
    run_suites("entropy")
    (suite,) = request_of(suite=("entropy",)).suites
    worker = make_worker(False, 64)
    for work in work_items(suite):
        worker(work)
    instruments = worker.keywords["instruments"]
    assert suite.model(instruments) is suite.model(instruments)


def test_held_out_rows_that_cannot_be_decoded_are_left_out_of_the_counts(run_suites, break_row):
    outcomes = run_suites(
        "reconstruction", "alignment", "trajectory", eval_data=str(break_row("validation", 5))
    )
    for outcome in outcomes:
        assert {row.card.num_samples for row in outcome.rows} == {296}, outcome.suite
        assert any("1 of the first 297 rows" in remark for remark in outcome.remarks)


def test_uniform_labels_stand_on_the_card(run_suites, random_export, data):
    settings = {"num_samples": 50, "run": random_export, "data": data}
    (balanced,) = run_suites("generation", **settings)
    (uniform,) = run_suites("generation", **settings, labels="uniform")
    assert {row.card.label_sampling for row in uniform.rows} == {"uniform"}
    assert value(uniform, "fd-pixels") != value(balanced, "fd-pixels")


def test_rates_say_what_they_were_measured_on(run_suites):
    (outcome,) = run_suites("generation", num_samples=50)
    card = next(row.card for row in outcome.rows if row.card.metric == "images_per_s")
    assert card.details.keys() == {"device", "threads", "batch", "workers"}
    assert "CPU" in card.details["device"]


def test_curves_carry_their_protocol(run_suites):
    outcomes = {o.suite: o for o in run_suites("alignment", "trajectory", "entropy", seed=7)}
    for name, file in (("alignment", "alignment.json"), ("trajectory", "trajectory.json")):
        card = json.loads(outcomes[name].files[file])["card"]
        assert (card["suite"], card["seed"], card["num_samples"]) == (name, 7, 297)
        assert {row.card.seed for row in outcomes[name].rows} == {7}
    card = json.loads(outcomes["entropy"].files["entropy.json"])["card"]
    assert "Xavier" in card["details"]["baseline"]
    assert "Xavier" in outcomes["entropy"].protocol
    assert "metric" not in card


def test_the_papers_entropy_is_told_apart(run_suites):
    (usual,) = run_suites("entropy")
    (few,) = run_suites("entropy", entropy_bins=256)
    note = {row.card.metric: row.note for row in usual.rows}
    assert note["functional_mb"] == "its figure holds our other too"
    assert note["norm_mb"] == "", "at 2048 bins it may stand beside the paper's"
    note = {row.card.metric: row.note for row in few.rows}
    assert note["norm_mb"] == "paper: bins not given, 2048 fit"


def test_the_probe_reads_the_mean_and_all_registers(run_suites):
    (outcome,) = run_suites("probe")
    read = {row.card.metric: row.card.details["features"] for row in outcome.rows}
    assert read["top1_pct"] == "mean"
    assert read["flat_top1_pct"] == "flatten"


def test_worst_cases_and_lpips_of_reconstructions(request_of, monkeypatch):
    (suite,) = request_of(suite=("reconstruction",)).suites
    suite = replace(suite, lpips=True)
    instruments = Instruments()
    instruments.cached("lpips", lambda: lambda a, b: (a - b).abs().flatten(1).amax(dim=1))
    chunks = [suite.measure(instruments, chunk) for chunk in suite.chunks()]
    rows = instruments.rows(suite.data, suite.subject.config.domain, partition("all", 297, 1)[0])
    psnr, largest = {}, []
    for batch in rows:
        recon_BCHW = suite._reconstruct(instruments, batch)
        wrong = (recon_BCHW.clamp(0, 1) - batch.sample).double()
        largest += wrong.abs().flatten(1).amax(dim=1).tolist()
        errors = wrong.square().flatten(1).mean(dim=1)
        psnr |= dict(zip(batch.rows_B.tolist(), (-10 * errors.log10()).tolist(), strict=True))
    worst = [row for row in sorted(psnr, key=psnr.__getitem__)[:8] if row >= 8]
    shown = set(np.concatenate([chunk["rows"] for chunk in chunks]).tolist())
    assert {*range(8), *worst} <= shown
    outcome = suite.combine(chunks)
    assert value(outcome, "lpips") == pytest.approx(np.mean(largest), rel=1e-5)
    with Image.open(io.BytesIO(outcome.files["reconstructions.png"])) as picture:
        width, height = picture.size
    assert round(width / height * 2) == 8 + len(worst)


def test_large_models_share_their_alignment_between_workers(request_of):
    (suite,) = request_of(suite=("alignment",)).suites
    suite = replace(suite, total=1024, subject=replace(suite.subject, config=recipe("unite-xl")))
    chunks = suite.chunks()
    assert len(chunks) == 5
    assert {len(chunk) for chunk in chunks} == {1024}


def test_separate_weights_are_analysed_as_two(run_suites, separate_export, data):
    alignment, entropy = run_suites("entropy", "alignment", run=separate_export, data=data)
    names = {row.card.metric: row for row in entropy.rows}
    assert {"total_mb", "denoiser_total_mb", "denoiser_random_norm_mb"} <= set(names)
    assert names["denoiser_norm_mb"].paper.value == 42.0
    assert names["total_mb"].paper.value == 121.9
    assert 0 <= value(alignment, "cka_mean") <= 1
