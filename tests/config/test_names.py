import pytest

from unite.config.names import MAX_BYTES, check_name
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.config.validate import validate


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "run 2",
        "digits-3f",
        "x.y_z",
        "lr=1e-3,b=2",
        "3",
        "Lauf\u00fc",
        "v1+ema",
        "a@b",
        "datas",
    ],
)
def test_a_name_is_taken_as_it_is(name):
    assert check_name(name, "--name") == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "is empty"),
        ("latest", "meaning of its own"),
        ("Latest", "meaning of its own"),
        ("auto", "meaning of its own"),
        ("data", "meaning of its own"),
        ("..", "the folder above"),
        ("a..b", "the folder above"),
        ("../x", "the folder above"),
        (".hidden", "begins with '.'"),
        ("-x", "begins with '-'"),
        ("_x", "begins with '_'"),
        ("a/b", "holds '/': it is a name"),
        ("a\\b", "not a path"),
        ("a?b", r"holds '\?'"),
        ("a#b", "holds '#'"),
        ("a%20b", "holds '%'"),
        ("a:b", "holds ':'"),
        ("a*b", r"holds '\*'"),
        ("a\nb", r"holds '\\n'"),
        ("a\x00b", "holds"),
        ("a\u200bb", "holds"),
        (" a", "a blank"),
        ("a ", "a blank"),
        ("a.", "a dot"),
        ("x" * (MAX_BYTES + 1), "longer than"),
        ("\u00fc" * (MAX_BYTES // 2 + 1), "longer than"),
    ],
)
def test_what_is_no_name_is_refused_with_the_reason(name, why):
    with pytest.raises(ValueError, match=why) as caught:
        check_name(name, "--name")
    assert str(caught.value).startswith(f"--name {name!r}")


def test_a_run_is_named_by_the_same_rule():
    with pytest.raises(ValueError, match="name '../up'"):
        validate(replace(recipe("smoke"), {"name": "../up"}))
    validate(replace(recipe("smoke"), {"name": "a run"}))
