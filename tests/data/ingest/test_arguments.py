"""The first word of the command chooses the kind of source; commands without one keep working."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from unite.data.ingest.arguments import check_digits, parse_arguments
from unite.data.ingest.images import ImagesIngest
from unite.data.ingest.kind import KINDS, Ingest


@dataclass(frozen=True, kw_only=True)
class WordsIngest(Ingest):
    """Words, as an example."""

    most: int = 3
    """Most letters."""

    schema: ClassVar[pa.Schema] = pa.schema([("word", pa.string())])

    def sources(self, out):
        return {}

    def encode(self, record):
        return {}

    def settings(self):
        return {"most": self.most}


@pytest.fixture
def words(monkeypatch):
    monkeypatch.setitem(KINDS, "words", WordsIngest)


def parsed(text: str) -> Any:
    return parse_arguments(text.split(), None)


def test_images_are_the_usual_kind():
    for text in ("tree --out shards --size 64", "images tree --out shards --size 64"):
        assert parsed(text).ingest == ImagesIngest(source="tree", out="shards", size=64)
    assert parsed("--out shards tree --dry-run").dry_run
    assert parsed("tree --out shards --num-cpus 2").num_cpus == 2


def test_the_first_word_chooses_a_kind_and_its_options(words, capsys):
    assert parsed("words list --out shards --most 5").ingest == WordsIngest(
        source="list", out="shards", most=5
    )
    with pytest.raises(SystemExit):
        parsed("words --help")
    assert "Most letters" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        parsed("words list --out shards --size 64")


def test_a_first_word_that_is_no_kind_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="'perov6' is no kind of source; did you mean perov5"):
        parsed("perov6 folder --out shards")
    with pytest.raises(ValueError, match="'a' is no kind of source. Kinds: images, qm9"):
        parsed("a b --out shards")


def test_a_folder_may_have_the_name_of_a_kind(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words").mkdir()
    assert parsed("words --out shards").ingest == ImagesIngest(source="words", out="shards")
    assert parsed("words words --out shards").ingest == WordsIngest(source="words", out="shards")


def test_atoms_have_kinds_of_their_own():
    for text in ("qm9 x.parquet --out shards --split edm", "x.parquet --out shards --size 8"):
        wanted = "QM9Ingest" if text.startswith("qm9") else "ImagesIngest"
        assert type(parsed(text).ingest).__name__ == wanted
    for text in ("builtin:qm9 --out shards", "qm9 builtin:qm9 --out shards", "--out s builtin:qm9"):
        assert type(parsed(text).ingest).__name__ == "QM9Ingest"
        assert parsed(text).ingest.source == "builtin:qm9"
    assert parsed("mp20 csvs --out shards").ingest.domain == "crystals"
    assert parsed("perov5 x --out shards --train-on-validation").ingest.name == "perov5"


def test_options_that_do_nothing_to_the_digits_are_refused():
    check_digits(parsed("builtin:digits --out digits --dry-run"))
    for option in ("--size 64", "--num-cpus 2"):
        with pytest.raises(ValueError, match=f"{option}.* has no effect on builtin:digits"):
            check_digits(parsed(f"builtin:digits --out digits {option}"))
