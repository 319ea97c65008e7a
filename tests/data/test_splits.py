"""Splits: by patient, the same for one seed, and never with nothing to train on."""

from __future__ import annotations

import pytest
from swin_umamba.data.splits import Split, set_patients, split_sections
from swin_umamba.errors import InputError

SECTIONS = ("training", "validation", "test")


def cases(patients: int = 10, visits: str = "ab") -> dict[str, list[dict]]:
    items = [{"case": f"p{n}_{v}", "image": f"p{n}_{v}.nii"} for n in range(1, patients + 1) for v in visits]
    return set_patients({"training": items, "validation": [], "test": []}, r"p(\d+)_")


def patients_of(division: dict[str, list[dict]]) -> list[set[str]]:
    return [{item["patient"] for item in division[section]} for section in SECTIONS]


def test_shares_are_of_patients_and_do_not_overlap():
    (division,) = split_sections(cases(), Split(validation=0.2, test=0.3))
    training, validation, test = patients_of(division)
    assert [len(part) for part in (training, validation, test)] == [5, 2, 3]
    assert training | validation | test == {str(n) for n in range(1, 11)}
    assert sum(len(items) for items in division.values()) == 20


def test_one_seed_gives_one_split_whatever_the_order_of_the_cases():
    backwards = {name: items[::-1] for name, items in cases().items()}
    split = Split(validation=0.2, test=0.2, seed=5)
    assert patients_of(split_sections(cases(), split)[0]) == patients_of(split_sections(backwards, split)[0])
    drawn = {tuple(sorted(patients_of(split_sections(cases(), Split(test=0.2, seed=s))[0])[2])) for s in range(8)}
    assert len(drawn) > 3


def test_test_patients_do_not_depend_on_the_share_for_validation():
    tests = [patients_of(split_sections(cases(), Split(validation=v, test=0.2))[0])[2] for v in (0, 0.1, 0.4)]
    assert tests[0] == tests[1] == tests[2]


def test_a_small_share_takes_one_patient():
    assert len(patients_of(split_sections(cases(3), Split(validation=0.01))[0])[1]) == 1


def test_named_patients_go_where_they_were_sent():
    (division,) = split_sections(cases(), Split(validation_patients=("10", "3"), test_patients=("7",)))
    assert patients_of(division)[1:] == [{"10", "3"}, {"7"}]
    assert [item["case"] for item in division["test"]] == ["p7_a", "p7_b"]


def test_named_and_drawn_patients_mix():
    (division,) = split_sections(cases(), Split(validation_patients=("1", "2"), test=0.2))
    _, validation, test = patients_of(division)
    assert validation == {"1", "2"}
    assert len(test) == 2
    assert not test & validation


def test_folds_validate_each_patient_once_and_share_a_test_section():
    divisions = split_sections(cases(11), Split(folds=4, test_patients=("5",)))
    assert len(divisions) == 4
    validated = [patient for division in divisions for patient in patients_of(division)[1]]
    assert sorted(validated, key=int) == [str(n) for n in range(1, 12) if n != 5]
    for division in divisions:
        training, validation, test = patients_of(division)
        assert test == {"5"}
        assert not training & validation
        assert len(validation) in (2, 3)


def test_the_sources_own_sections_stay():
    sections = cases(4)
    sections["test"] = [{"case": "t", "patient": "t", "image": "t.nii"}]
    (division,) = split_sections(sections, Split(validation=0.25))
    assert [len(part) for part in patients_of(division)] == [3, 1, 1]
    with pytest.raises(InputError, match=r"its own test section \(1 cases\); leave --test"):
        split_sections(sections, Split(test=0.25))
    sections["validation"] = [{"case": "v", "patient": "v", "image": "v.nii"}]
    with pytest.raises(InputError, match="its own validation section .* --folds out"):
        split_sections(sections, Split(folds=2))


def test_a_list_only_for_testing():
    sections = split_sections(cases(), Split(test=1.0))[0]
    assert len(sections["test"]) == len(cases()["training"])
    assert not sections["training"]
    assert not sections["validation"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"validation": 1.0}, r"--validation 1.0: legal is a share of the patients from 0"),
        ({"test": -0.1}, "--test -0.1: legal"),
        ({"test": 20}, "--test 20: legal"),
        ({"validation": 0.5, "test": 0.5}, "leave nothing to train on"),
        ({"validation": 0.1, "test": 1.0}, "leave nothing to train on"),
        ({"validation": 0.5, "validation_patients": ("1",)}, "--validation 0.5 and --validation_patients: give one"),
        ({"folds": 1}, "--folds 1: legal is 2 or more"),
        ({"folds": 5, "validation": 0.1}, "--folds 5 chooses the validation patients itself"),
        ({"folds": 11}, "--folds 11: there are 10 patients; legal is 2 to 10"),
        ({"test_patients": ("99",)}, "--test_patients: unknown patient '99'.*legal: 1, 2, 3.* 10"),
        ({"test_patients": ("3",), "validation_patients": ("3",)}, "patient '3' is in both"),
        ({"test_patients": tuple("123456789") + ("10",)}, "leaves none to train on"),
        ({"validation": 0.5, "test_patients": tuple("123456")}, "leaves none to train on"),
    ],
)
def test_splits_that_cannot_be(arguments, said):
    with pytest.raises(InputError, match=said):
        split_sections(cases(), Split(**arguments))


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"p(\d+", "is not a regular expression"),
        (r"p\d+", "has 0 groups; legal is one"),
        (r"(p)(\d+)", "has 2 groups"),
        (r"q(\d+)", "finds no patient in the name of case 'p1_a'"),
        (r"p(\d*?)", "finds no patient"),
    ],
)
def test_patterns_that_find_no_patient(pattern, said):
    with pytest.raises(InputError, match=said):
        set_patients({"training": [{"case": "p1_a"}]}, pattern)


def test_a_case_is_its_own_patient_without_a_pattern():
    assert set_patients({"training": [{"case": "x_1"}]}, None) == {"training": [{"case": "x_1", "patient": "x_1"}]}
