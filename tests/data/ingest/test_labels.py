"""Lists of labels as people write them."""

import pytest

from unite.data.ingest.labels import read_labels
from unite.data.manifest import ShardError

SUFFIXES = (".jpg", ".jpeg", ".png")
IMAGES = ("a1.jpg", "a2.jpg", "b1.jpg", "b2.jpg")
BUTTERFLIES = dict(
    zip(IMAGES, ("RED ADMIRAL", "RED CRACKER", *2 * ["SOUTHERN DOGFACE"]), strict=True)
)
LINES = tuple(f"{image},{name}" for image, name in BUTTERFLIES.items())


@pytest.fixture
def read(tmp_path):
    def make(text: str | bytes, paths=IMAGES) -> dict[str, str]:
        place = tmp_path / "labels.csv"
        place.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_labels(str(place), paths, SUFFIXES, "SOURCE")

    return make


def lines(*rows: str) -> str:
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        lines(*LINES),
        lines("filename,label", *LINES),
        lines("id,breed", *LINES),
        lines("", *LINES, "", "  "),
        lines(*LINES).replace("\n", "\r\n"),
        lines("filename;label", *LINES).replace(",", ";"),
        lines(*LINES).replace(",", "\t"),
        lines(*LINES).replace(",", ", "),
        lines(*LINES).replace(".jpg", ""),
        lines(*LINES).replace(".jpg", ".png"),
        lines(*(f'"{line.replace(",", chr(34) + "," + chr(34))}"' for line in LINES)),
        lines(*(f'{line.replace(",", " " + chr(34))}"' for line in LINES)),
        lines(*(f"{line},1,2,3" for line in LINES)),
        lines(*(",".join(reversed(line.split(","))) for line in LINES)),
        lines(",filename,label", *(f"{n},{line}" for n, line in enumerate(LINES))),
        lines(*(f"{n},{line}" for n, line in enumerate(LINES))),
        lines("file,width,class,x", *(line.replace(",", ",8,") + ",1" for line in LINES)),
        lines("somewhere/else.jpg,MONARCH", *LINES),
        "\ufeff" + lines(*LINES),
        lines(*LINES).encode("utf-16"),
        ("\ufeff" + lines(*LINES)).encode("utf-16-be"),
    ],
)
def test_lists_that_say_the_same(read, text):
    assert read(text) == BUTTERFLIES


@pytest.mark.parametrize("separator", [",", ";", "\t", "  "])
def test_file_names_with_spaces_and_classes_with_separators(read, separator):
    names = {"my cat.jpg": "cat, tabby; grey", "x y/z 1.jpg": "a\tb"}
    text = lines(*(f'"{image}"{separator}"{name}"' for image, name in names.items()))
    assert read(text, tuple(names)) == names


def test_numbers_that_are_names_too(read):
    """Row numbers 0, 1 beside images 0.jpg, 1.jpg: the column with the ending is the image's."""
    images = ("0.jpg", "1.jpg")
    assert read("0,1.jpg,ant\n1,0.jpg,bee\n", images) == {"0.jpg": "bee", "1.jpg": "ant"}
    assert read("0,ant\n1,bee\n", images) == {"0.jpg": "ant", "1.jpg": "bee"}


def test_the_separator_that_names_most_files_counts(read):
    """The comma of the second line belongs to a file's name, though `b` is a file as well."""
    names = {"a.jpg": "ant", "b,1.jpg": "bee", "b.jpg": "cow"}
    assert read(lines(*(f"{image};{name}" for image, name in names.items())), tuple(names)) == names


def test_a_line_that_names_a_file_is_no_head(read):
    assert read("a.jpg,ant,target\nb.jpg,bee,x\n", ("a.jpg", "b.jpg"))["a.jpg"] == "ant"


def test_a_whole_path_comes_before_the_end_of_another(read):
    names = {"a/1.jpg": "ant", "x/a/1.jpg": "bee"}
    assert read(lines(*(f"{image},{name}" for image, name in names.items())), tuple(names)) == names


def test_list_of_imagenet(read):
    text = "ImageId,PredictionString\na1,n01 85 1 499 272 n01 1 2 3 4\na2,n02 1 2 3 4\n"
    assert read(text, ("a1.jpg", "a2.jpg")) == {"a1.jpg": "n01", "a2.jpg": "n02"}


def test_list_of_tiny_imagenet(read):
    images = ("images/val_0.JPEG", "images/val_1.JPEG")
    text = "val_0.JPEG\tn03444034\t0\t32\t44\t62\nval_1.JPEG\tn04067472\t52\t55\t57\t59\n"
    assert read(text, images) == {images[0]: "n03444034", images[1]: "n04067472"}


def test_paths_tell_files_of_one_name_apart(read):
    images = ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/1.png")
    expected = dict(zip(images, ("ant", "bee", "cow", "doe"), strict=True))
    assert read("a/1.jpg,ant\n2,bee\nb/1.jpg,cow\nb/1.png,doe\n", images) == expected
    assert read("d/a/1.jpg,ant\n./a/2.jpg,bee\nb/1.jpg,cow\n/d/b/1.png,doe\n", images) == expected
    with pytest.raises(ShardError, match=r"line 2: 1\.jpg may be a/1\.jpg or b/1\.jpg; give their"):
        read("a/2.jpg,bee\n1.jpg,ant\n", images)
    with pytest.raises(ShardError, match="no line for 1 of 4 images of SOURCE, such as b/1.png"):
        read("a/1.jpg,ant\na/2.jpg,bee\nb/1.jpg,cow\nc/1.png,doe\n", images)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            lines(*LINES).replace(",", " "),
            "line 1 has 3 cells instead of 2: a1.jpg . RED . A",
        ),
        (lines(*LINES, "a1.jpg,RED,ADMIRAL"), "line 5 has 3 cells .*: a1.jpg . RED . ADMIRAL. Put"),
        (lines("a1.jpg,RED,ADMIRAL", *LINES[1:]), "line 1 has 3 cells instead of 2: a1.jpg"),
        (lines(*LINES[:2], "b1.jpg,", LINES[3]), "line 3: no class in 'b1.jpg,'"),
        (lines(*LINES[:2], "b1.jpg", LINES[3]), "line 3: no class in 'b1.jpg'"),
        (lines(*IMAGES), "line 1: no class in 'a1.jpg'"),
        (lines("", *IMAGES), "line 2: no class in 'a1.jpg'"),
        (lines(*LINES, "a1.jpg,MONARCH"), "lines 1 and 5: a1.jpg is 'RED ADMIRAL' and 'MONARCH'"),
        (lines(*LINES[1:]), "no line for 1 of 4 images of SOURCE, such as a1.jpg"),
        (lines('a1.jpg,"RED ADMIRAL', *LINES[1:]), "line 4: unexpected end of data"),
        (
            lines("x,label,class", *(f"{line},1" for line in LINES)),
            "line 1: 'label' and 'class' may",
        ),
        ("", "line 1 and all others name no image, such as 'a1.jpg'"),
        ("z.jpg,cat\n", "line 1 and all others name no image, such as 'a1.jpg': 'z.jpg,cat'"),
        ("a1.jpg,caf\u00e9\n".encode("latin-1"), "labels.csv, line 1 is not UTF-8 .*save the file"),
        ("a1.jpg,cat\nb,caf\u00e9\n".encode("cp1252"), "labels.csv, line 2 is not UTF-8"),
        (lines(*LINES).encode("utf-16-le"), "labels.csv holds zero bytes, as UTF-16 without"),
        (b"\xff\xfea", "labels.csv, line 1 is not UTF-16"),
    ],
)
def test_lists_that_cannot_be_used(read, text, message):
    with pytest.raises(ShardError, match=message):
        read(text)


def test_a_column_for_each_class_is_refused(read):
    """As of skin lesions (ISIC 2018): the first class against all others would be two classes."""
    cells = ("1.0,0.0,0.0", "0.0,1.0,0.0", "0.0,0.0,1.0", "0.0,1.0,0.0")
    rows = [f"{image[:-4]},{row}" for image, row in zip(IMAGES, cells, strict=True)]
    with pytest.raises(ShardError, match="line 1: MEL, NV, BCC are columns of 0 and 1, one for"):
        read(lines("image,MEL,NV,BCC", *rows))
    inverse = [f"{image},{n % 2},{1 - n % 2}" for n, image in enumerate(IMAGES)]
    assert set(read(lines("image,class,easy", *inverse)).values()) == {"0", "1"}


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(ShardError, match="absent.csv is no file"):
        read_labels(str(tmp_path / "absent.csv"), IMAGES, SUFFIXES, "SOURCE")
