"""Metrics of molecules (paper Table 3) and crystals (Table 5), METHOD 7"""

from __future__ import annotations

from functools import partial

from unite.metrics.specs.spec import Spec

atoms = partial(Spec, domains=("molecules", "crystals", "structures"))
generation = partial(atoms, family="generation", better="higher", unit="%")
reconstruction = partial(atoms, family="reconstruction", better="higher", unit="%")
distance = partial(atoms, family="generation", better="lower")
error = partial(atoms, family="reconstruction", better="lower")

# fmt: off
ROWS = (
    reconstruction(key="match_pct", name="match", paper="match rate", column="runs", judges=3,
                   logged=True, meaning="samples that are the true ones: molecules by types and "
                   "bonds in index order (native), crystals by StructureMatcher"),
    reconstruction(key="match_openbabel_pct", name="match (Open Babel)", column="tables",
                   meaning="molecules that pymatgen's MoleculeMatcher maps onto the true ones"),
    reconstruction(key="match_valid_pct", name="match of valid", column="tables",
                   meaning="crystals that match, where both are valid; the others count as failed"),
    error(key="rmsd_matched", name="RMSD", paper="rmsd", unit="A", column="tables",
          meaning="root mean squared distance of atoms after superposition, mean of matched"),
    error(key="rmsd_all", name="RMSD of all", unit="A", column="runs", logged=True,
          meaning="root mean squared distance of atoms by index, mean of all samples"),
    error(key="rmsd_median", unit="A", meaning="the same, median of all samples"),
    error(key="rmsd_p90", unit="A", meaning="the same, 90th percentile of all samples"),
    error(key="rms", name="RMS", paper="rms",
          meaning="StructureMatcher's distance over (V / N)^(1/3), mean of matched crystals"),
    reconstruction(key="types_pct", name="types", logged=True,
                   meaning="atoms whose element is right, mean of samples"),
    reconstruction(key="kind_pct", domains=("structures",),
                   meaning="samples that come out as the kind that they are of"),
    reconstruction(key="exact_pct", logged=True, meaning="samples whose every element is right"),
    generation(key="valid_pct", name="valid", paper="validity", column="runs", judges=4,
               meaning="valid samples: molecules by the route of ADiT's code, crystals by "
               "structure and composition"),
    generation(key="valid_rdkit_pct", name="valid (RDKit)",
               meaning="molecules for whose bonds by distance RDKit finds orders"),
    generation(key="valid_strict_pct", name="strictly valid", column="runs", judges=3,
               meaning="those of one fragment, without radicals or charges beyond one"),
    generation(key="unique_pct", name="unique", paper="uniqueness", column="tables",
               meaning="distinct among the valid samples: molecules by name, crystals in groups of "
               "StructureMatcher"),
    generation(key="novel_pct", name="novel", paper="novelty", column="tables",
               meaning="distinct ones that are not in the training set, over the valid samples; of "
               "crystals over the distinct ones"),
    generation(key="novel_all_pct", meaning="the same against all splits, as ADiT counts"),
    generation(key="kind_pct", domains=("structures",),
               meaning="samples that come out as the kind that was asked for"),
    generation(key="struct_pct", name="structure valid", paper="structural validity",
               column="tables", meaning="crystals without atoms closer than 0.5 A or empty cells"),
    generation(key="comp_pct", name="composition valid", paper="compositional validity",
               column="tables", meaning="crystals with neutral oxidation states (SMACT's rule)"),
    generation(key="stable_atoms_pct", meaning="atoms with their usual valence (EDM's tables)"),
    generation(key="stable_molecules_pct", meaning="molecules whose every atom has it"),
    generation(key="pb_all_pct", name="PoseBusters",
               meaning="valid and every column of PoseBusters"),
    generation(key="pb_*_pct", meaning="one column of PoseBusters, over the valid samples"),
    distance(key="w1_bonds", name="W1 of bonds", unit="A", column="runs", judges=2,
             meaning="Wasserstein-1 distance of bond lengths to the data's, per kind, weighted"),
    distance(key="w1_angles", unit="degrees",
             meaning="Wasserstein-1 distance of bond angles to the data's"),
    distance(key="tv_elements",
             meaning="total variation distance of element frequencies to the data's, 0..1"),
    distance(key="tv_rings",
             meaning="total variation distance of ring-size frequencies to the data's, 0..1"),
    distance(key="w1_density", unit="g/cm3",
             meaning="Wasserstein-1 distance of densities to the data's"),
    distance(key="w1_num_elements",
             meaning="Wasserstein-1 distance of the number of elements to the data's"),
)
# fmt: on
