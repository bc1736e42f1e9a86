import io

import numpy as np
import pyarrow.parquet as pq

from unite.config.domains import CrystalsConfig, MoleculesConfig
from unite.domains.atoms.featurise import decode
from unite.domains.atoms.structure import Structure
from unite.sampling.atoms.files import cif, parquet, read_parquet, xyz


def molecules(textbook_molecules) -> list[Structure]:
    return [
        Structure(numbers=np.array(numbers), positions=np.array(positions, float))
        for numbers, positions in textbook_molecules.values()
    ]


def crystals(textbook_crystals) -> list[Structure]:
    return [
        Structure(
            positions=np.zeros((len(cell["numbers"]), 3)),
            **{k: np.array(v) for k, v in cell.items()},
        )
        for cell in textbook_crystals.values()
    ]


def test_xyz_has_a_frame_for_each_molecule(textbook_molecules):
    whole = molecules(textbook_molecules)
    lines = xyz(dict(enumerate(whole)), range(7, 7 + len(whole))).splitlines()
    assert len(lines) == sum(len(each.numbers) + 2 for each in whole)
    assert lines[1] == "0 CH4 seed 7"


def test_cif_has_a_block_for_each_crystal(textbook_crystals):
    text = cif(dict(enumerate(crystals(textbook_crystals))))
    assert text.count("data_") == len(textbook_crystals)
    assert "data_1_Cl4Na4" in text


def read(content: bytes):
    return pq.read_table(io.BytesIO(content)).to_pydict()


def test_the_table_of_arrays_is_read_as_a_shard(textbook_molecules):
    whole = molecules(textbook_molecules)
    rows = read(parquet(dict(enumerate(whole)), range(len(whole))))
    assert rows["num_atoms"] == [len(each.numbers) for each in whole]
    fields, bad = decode({k: rows[k] for k in ("numbers", "positions")}, MoleculesConfig())
    assert bad == []
    for row, each in enumerate(whole):
        assert fields["numbers"][row, : len(each.numbers)].tolist() == each.numbers.tolist()


def test_crystals_keep_float64(textbook_crystals):
    whole = crystals(textbook_crystals)
    rows = read(parquet(dict(enumerate(whole)), range(len(whole))))
    names = ("numbers", "frac", "lengths", "angles")
    assert decode({k: rows[k] for k in names}, CrystalsConfig())[1] == []
    assert np.frombuffer(rows["frac"][0], "<f8").tolist() == whole[0].frac.ravel().tolist()


def test_the_table_gives_its_structures_back(textbook_molecules, textbook_crystals):
    for whole in (molecules(textbook_molecules), crystals(textbook_crystals)):
        samples = {3 * index: each for index, each in enumerate(whole)}
        back = read_parquet(parquet(samples, range(len(whole))))
        assert list(back) == list(samples)
        for index, each in samples.items():
            assert back[index].numbers.tolist() == each.numbers.tolist()
            if each.frac is None:
                np.testing.assert_allclose(back[index].positions, each.positions, atol=1e-7)
            else:
                np.testing.assert_array_equal(back[index].frac, each.frac)
                assert back[index].to_cif() == each.to_cif()
