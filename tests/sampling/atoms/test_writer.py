"""The files of one call: written, continued after a kill, refused for another request."""

import numpy as np
import pytest
import torch

from unite.config.domains import CrystalsConfig, MoleculesConfig
from unite.domains import build_domain
from unite.sampling.atoms import writer as module
from unite.sampling.atoms.writer import AtomsWriter
from unite.sampling.generator import Samples
from unite.sampling.writers import writer_for
from unite.storage import Store

REQUEST = {"seed": 5, "num": 4}


def samples_of(config, sizes: list[int]) -> Samples:
    """Atoms on a grid, as if a model had drawn them."""
    domain = build_domain(config)
    fields = domain.example_fields(len(sizes), np.random.default_rng(0))
    sample, labels = domain.to_sample({k: torch.from_numpy(v) for k, v in fields.items()})
    atoms = domain.as_reconstruction(sample)
    mask = torch.arange(config.max_atoms) < torch.tensor(sizes)[:, None]
    ones = torch.ones(len(sizes), dtype=torch.int64)
    return Samples(
        labels_B=labels,
        z_BKD=torch.zeros(len(sizes), config.max_atoms, 4),
        reconstruction={**atoms, "mask": mask},
        mask_BK=mask,
        nfe_B=ones,
        network_rows_B=ones,
    )


@pytest.mark.parametrize(
    ("config", "text"), [(MoleculesConfig(), "samples.xyz"), (CrystalsConfig(), "samples.cif")]
)
def test_all_files_are_written_and_the_parts_go(config, text, tmp_path):
    writer = writer_for(config, Store.open(tmp_path))
    assert isinstance(writer, AtomsWriter)
    assert writer.claim(REQUEST, replace=False) == set()
    writer.write([0, 1], samples_of(config, [3, 5]))
    writer.write([2, 3], samples_of(config, [4, 6]))
    said = writer.finish(torch.zeros(4, dtype=torch.int64))
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    expected = {text, "samples.parquet", "page.html", "grid.png", "samples.json"}
    assert names - {"samples.sdf"} == expected
    assert text in said and "page.html" in said
    again = writer_for(config, Store.open(tmp_path))
    assert again.claim(REQUEST, replace=False) == {0, 1, 2, 3}


def test_an_interrupted_call_continues_to_the_same_bytes(tmp_path):
    config, whole = MoleculesConfig(), samples_of(MoleculesConfig(), [3, 5, 4, 6])
    halves = [samples_of(config, [3, 5]), samples_of(config, [4, 6])]
    for number, half in enumerate(halves):
        rows = slice(2 * number, 2 * number + 2)
        halves[number] = Samples(
            **{
                **vars(half),
                "reconstruction": {k: v[rows] for k, v in whole.reconstruction.items()},
                "mask_BK": whole.mask_BK[rows],
            }
        )
    texts = []
    for name, stops in (("straight", False), ("killed", True)):
        store = Store.open(tmp_path / name)
        writer = writer_for(config, store)
        writer.claim(REQUEST, replace=False)
        writer.write([0, 1], halves[0])
        if stops:
            writer = writer_for(config, store)
            assert writer.claim(REQUEST, replace=False) == {0, 1}
        writer.write([2, 3], halves[1])
        writer.finish(torch.zeros(4, dtype=torch.int64))
        texts.append([store.read(each) for each in ("samples.xyz", "samples.parquet", "page.html")])
    assert texts[0] == texts[1]


def test_another_request_is_refused_and_replaced_on_demand(tmp_path):
    config = MoleculesConfig()
    writer = writer_for(config, Store.open(tmp_path))
    writer.claim(REQUEST, replace=False)
    writer.write([0], samples_of(config, [3]))
    other = {**REQUEST, "seed": 6}
    with pytest.raises(ValueError, match="differs in seed"):
        writer_for(config, Store.open(tmp_path)).claim(other, replace=False)
    assert writer_for(config, Store.open(tmp_path)).claim(other, replace=True) == set()
    assert not list(tmp_path.glob("part-*"))


@pytest.mark.parametrize("name", ["samples.xyz", "samples.parquet", "page.html"])
def test_files_of_others_are_replaced_on_demand_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"{name}.*give --replace"):
        writer_for(MoleculesConfig(), Store.open(tmp_path)).claim(REQUEST, replace=False)
    assert (tmp_path / name).read_text() == "mine"
    writer_for(MoleculesConfig(), Store.open(tmp_path)).claim(REQUEST, replace=True)
    assert not (tmp_path / name).exists()


def test_a_kill_while_samples_are_replaced_mixes_none(tmp_path, monkeypatch):
    writer = writer_for(MoleculesConfig(), Store.open(tmp_path))
    writer.claim(REQUEST, replace=False)
    writer.write([0], samples_of(MoleculesConfig(), [3]))
    other, delete = {**REQUEST, "seed": 6}, Store.delete

    def killed(self, name=""):
        if name.startswith("part-"):
            raise KeyboardInterrupt
        delete(self, name)

    monkeypatch.setattr(Store, "delete", killed)
    with pytest.raises(KeyboardInterrupt):
        writer_for(MoleculesConfig(), Store.open(tmp_path)).claim(other, replace=True)
    monkeypatch.undo()
    assert list(tmp_path.glob("part-*"))
    again = writer_for(MoleculesConfig(), Store.open(tmp_path))
    assert again.claim(other, replace=True) == set()


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (MoleculesConfig(), "pos"),
        (MoleculesConfig(), "logits"),
        (CrystalsConfig(), "frac"),
        (CrystalsConfig(), "lengths"),
        (CrystalsConfig(), "angles"),
    ],
)
def test_a_sample_with_any_number_that_is_not_finite_is_named(config, name, tmp_path):
    writer = writer_for(config, Store.open(tmp_path))
    writer.claim(REQUEST, replace=False)
    drawn = samples_of(config, [3, 4])
    drawn.reconstruction[name][1].view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match="sample 8 is not finite"):
        writer.write([7, 8], drawn)
    assert not list(tmp_path.glob("part-*"))


def test_without_rdkit_the_sdf_is_missed_aloud(tmp_path, monkeypatch):
    def missing(tasks):
        raise ValueError("rdkit is not installed")

    monkeypatch.setattr(module, "versions", missing)
    writer = writer_for(MoleculesConfig(), Store.open(tmp_path))
    writer.claim(REQUEST, replace=False)
    writer.write([0], samples_of(MoleculesConfig(), [3]))
    said = writer.finish(torch.zeros(1, dtype=torch.int64))
    assert "no samples.sdf: rdkit is not installed" in said
    assert not (tmp_path / "samples.sdf").exists()
