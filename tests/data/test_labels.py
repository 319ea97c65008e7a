"""Label tables: the published ids, spellings, and mapping by name."""

from __future__ import annotations

import pytest
from swin_umamba.data.labels import (
    ABDOMEN_MRI,
    LABEL_TABLES,
    check_labels,
    check_organs,
    label_table,
    map_label_ids,
    organ_colour,
    organ_name,
)
from swin_umamba.errors import InputError


def test_abdomen_mri_has_the_papers_organs_in_order():
    assert list(label_table(ABDOMEN_MRI).items()) == [
        ("liver", 1),
        ("right kidney", 2),
        ("spleen", 3),
        ("pancreas", 4),
        ("aorta", 5),
        ("inferior vena cava", 6),
        ("right adrenal gland", 7),
        ("left adrenal gland", 8),
        ("gallbladder", 9),
        ("esophagus", 10),
        ("stomach", 11),
        ("duodenum", 12),
        ("left kidney", 13),
    ]


@pytest.mark.parametrize("name", LABEL_TABLES)
def test_every_table_is_legal_and_spelt_as_we_spell(name):
    table = check_labels(label_table(name))
    assert [organ_name(organ) for organ in table] == list(table)


def test_amos_maps_to_abdomen_mri_as_published():
    mapping = map_label_ids(label_table("amos22"), label_table(ABDOMEN_MRI))
    published = {1: 3, 2: 2, 3: 13, 4: 9, 5: 10, 6: 1, 7: 11, 8: 5, 9: 6, 10: 4, 11: 7, 12: 8, 13: 12, 14: 0, 15: 0}
    assert mapping == published


def test_chaos_maps_to_abdomen_mri_as_published():
    assert map_label_ids(label_table("chaos_t2spir"), label_table(ABDOMEN_MRI)) == {1: 1, 2: 2, 3: 13, 4: 3}


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Arota", "aorta"),
        ("postcava", "inferior vena cava"),
        ("gall bladder", "gallbladder"),
        ("adrenal_gland_right", "right adrenal gland"),
        ("kidney-left", "left kidney"),
        ("RAG", "right adrenal gland"),
        ("Some Thing", "some thing"),
    ],
)
def test_spellings(spelling, name):
    assert organ_name(spelling) == name


def test_unknown_names_are_told_with_what_is_close():
    with pytest.raises(InputError, match="unknown label table 'amos'.*did you mean 'amos22'.*legal: abdomen_mri"):
        label_table("amos")
    with pytest.raises(InputError, match="here: unknown organ 'livr' .did you mean 'liver'.*legal: liver, spleen"):
        check_organs(["livr"], {"liver": 1, "spleen": 2}, "here")
    with pytest.raises(InputError, match="none of the model's organs: files heart; model liver"):
        map_label_ids({"heart": 1}, {"liver": 1})


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({}, "at least one organ"),
        ({"liver": 0}, "id of 'liver' is 0; legal are the integers from 1 to 255"),
        ({"liver": 256}, "id of 'liver' is 256"),
        ({"liver": True}, "id of 'liver' is True"),
        ({"liver": "1"}, "id of 'liver' is '1'"),
        ({"liver": 1, "spleen": 1}, "id 1 belongs to both 'liver' and 'spleen'"),
        ({" ": 1}, "' ' is not an organ name"),
    ],
)
def test_illegal_tables(labels, said):
    with pytest.raises(InputError, match=said):
        check_labels(labels)


def test_colours_of_a_model_differ_and_stay():
    colours = [organ_colour(organ) for organ in label_table(ABDOMEN_MRI)]
    assert len(set(colours)) == 13
    assert organ_colour("something new") == organ_colour("something new")
