from dataclasses import replace

from unite.evaluation.suite import identity


def entropy(request_of, **changes):
    (suite,) = request_of(suite=("entropy",)).suites
    return replace(suite, **changes)


def test_the_digest_names_what_numbers_depend_on(request_of):
    suite = entropy(request_of)
    assert entropy(request_of).digest == suite.digest
    assert entropy(request_of, bins=128).digest != suite.digest
    raw = replace(suite.subject, ema=False)
    assert entropy(request_of, subject=raw).digest != suite.digest


def test_the_digest_does_not_depend_on_where_things_are(request_of):
    suite = entropy(request_of)
    moved = replace(suite.subject, uri="s3://elsewhere/tiny", home="s3://elsewhere/evaluations")
    assert entropy(request_of, subject=moved, home="s3://elsewhere").digest == suite.digest


def test_library_versions_are_part_of_it(request_of, monkeypatch):
    before = entropy(request_of).digest
    monkeypatch.setattr("unite.evaluation.suite.library_versions", lambda: {"torch": "9"})
    assert entropy(request_of).digest != before


def test_identity_leaves_places_out(request_of):
    suite = entropy(request_of)
    assert identity(suite)["subject"] == {"digest": suite.subject.digest, "ema": True}
    assert "home" not in identity(suite)
