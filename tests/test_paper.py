"""The paper's figures as data: equal to the list they were taken from, and found by suite."""

import re

import pytest
import yaml

from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.paper import TABLES, counterpart, model_counterpart


def flatten_list(document):
    """{(table, row, metric): value} of the YAML list, in the names of `TABLES`."""
    flat = {}

    def put(table, row, values, default=None):
        values = values if isinstance(values, dict) else {default: values}
        flat.update({(table, str(row), metric): float(v) for metric, v in values.items()})

    for table, content in document.items():
        if table == "linear_probe_top1_pct":
            put("linear_probe", "UNITE-B", {"top1_pct": content})
        elif table == "evaluation_protocol":
            for entry in content:
                steps = f", {entry['steps']} steps" if "steps" in entry else ""
                row = f"{entry['solver']}{steps}, {entry['classes']} classes"
                put(table, row, {k: entry[k] for k in ("nfe", "fid", "is")})
        elif table == "ablation_flow_ratio":
            for row, values in content["shared"].items():
                put(table, row, values)
        else:
            for row, values in content.items():
                if row == "baselines":
                    for name, figures in values.items():
                        put("imagenet256_baselines", name, figures)
                else:
                    put(table, row, values, default="rfid")
    return flat


def test_equals_the_list(shared_dir):
    document = yaml.safe_load((shared_dir / "spec" / "paper_results.yaml").read_text())
    ours = {
        (name, row, metric): float(value)
        for name, table in TABLES.items()
        for row, values in table.rows.items()
        for metric, value in values.items()
    }
    assert ours == flatten_list(document)


def printed(line):
    """Numbers of a line of the paper; 675M+49M also as their sum, 2B as 2000."""
    line = line.replace("\\", " ")
    found = {float(word) for word in re.findall(r"\d+\.\d+|\d+", line)}
    found |= {1000 * float(word) for word in re.findall(r"(\d+)B", line)}
    found |= {float(a) + float(b) for a, b in re.findall(r"(\d+)M\+(\d+)M", line)}
    powers = re.findall(r"(\d+\.?\d*) times 10\^\{(\d+)\}", line)
    return found | {float(f"{base}e{power}") for base, power in powers}


def test_every_row_stands_in_the_papers_text(shared_dir):
    """Its figures stand together, in a line of a table or a paragraph of the text."""
    lines = (shared_dir / "spec" / "paper.txt").read_text().splitlines()
    numbers = [printed(line) for line in lines]
    absent = {
        (table.source, row): missing
        for table in TABLES.values()
        for row, figures in table.rows.items()
        if (missing := min((_lacking(figures, found) for found in numbers), key=len))
    }
    assert absent == {}


def _lacking(figures, found):
    """Figures that a line does not have. True counts are the code's, not the paper's."""
    return [n for n, value in figures.items() if n != "params_m_true" and value not in found]


def test_counterpart_names_its_source():
    figure = counterpart("FID", suite="generation")
    assert figure.value == 2.12
    assert figure.place == "Table 1" and "ImageNet" in figure.source
    assert counterpart("total_flop", suite="compute").value == 6.7e20
    assert counterpart("fid", suite="ablation_noise_shift", row="0.75").value == 2.93


def test_counterpart_of_what_the_paper_does_not_report():
    assert counterpart("psnr", suite="reconstruction") is None
    assert counterpart("cka", suite="alignment") is None


def test_counterpart_refuses_a_row_the_paper_lacks():
    with pytest.raises(ValueError, match="UNITE-H.*Table 1.*UNITE-B"):
        counterpart("fid", suite="generation", row="UNITE-H")


def test_tables_name_where_they_stand():
    assert all(t.source.startswith(("Table", "Figure", "Section")) for t in TABLES.values())


def like(name, **changes):
    return replace(recipe(name), changes)


@pytest.mark.parametrize(
    ("name", "fid", "params"), [("b", 2.12, 217), ("l", 1.73, 589), ("xl", 1.75, 806)]
)
def test_each_size_stands_beside_its_own_figures(name, fid, params):
    config = like(f"unite-{name}")
    assert model_counterpart("fid", suite="generation", config=config).value == fid
    assert model_counterpart("params_m", suite="compute", config=config).value == params
    total = model_counterpart("total_flop", suite="compute", config=config)
    assert (total is not None) == (name == "b")


def test_separate_weights_stand_beside_theirs():
    config = like("unite-b", **{"model.sharing": "separate"})
    assert model_counterpart("rfid", suite="reconstruction", config=config).value == 1.38
    assert model_counterpart("fid", suite="generation", config=config).value == 2.60
    assert model_counterpart("is", suite="generation", config=config) is None
    assert model_counterpart("top1_pct", suite="probe", config=config) is None
    coupled = like("unite-b", **{"model.sharing": "separate", "flow.stop_gradient": False})
    assert model_counterpart("rfid", suite="reconstruction", config=coupled).value == 0.85
    large = like("unite-l", **{"model.sharing": "separate"})
    assert model_counterpart("rfid", suite="reconstruction", config=large) is None


def test_other_models_stand_beside_base():
    assert model_counterpart("fid", suite="generation", config=like("digits")).value == 2.12
