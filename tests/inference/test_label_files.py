"""Files of labels as frameworks write them: read rightly, or refused; a number is never part of a name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emulator.inference.label_files import LabelsUnreadable, is_name, read_label_file
from emulator.inference.manifest import load_manifest

THREE = ("person", "bicycle", "car")
LABEL_MAP = """# as TensorFlow writes it
item {
  name: "/m/01g317"
  id: 1
  display_name: "person"
}
item { id: 2 name: 'bicycle' }
item { id: 3
  name: "car" }
"""

READ = {
    "colon.txt": "0: person\n1: bicycle\n2: car\n",
    "space.txt": "0 person\n1 bicycle\n2 car\n",
    "tab.txt": "0\tperson\n1\tbicycle\n2\tcar",
    "aligned.txt": " 0  person\n 1  bicycle\n 2  car\n",
    "comma.txt": "0,person\n1,bicycle\n2,car\n",
    "from one.txt": "1: person\n2: bicycle\n3: car\n",
    "in another order.txt": "2: car\n0: person\n1: bicycle\n",
    "quoted.txt": "0: 'person'\n1: \"bicycle\"\n2: car\n",
    "after.txt": "person: 0\nbicycle: 1\ncar: 2\n",
    "comments.txt": "# three classes\nperson\nbicycle\n#\ncar\n",
    "yaml in a text.txt": "nc: 3\nnames: [person, bicycle, car]\n",
    "data.yaml": "path: ../datasets/x\ntrain: images\nnc: 3\nnames: [person, bicycle, car]\n",
    "numbered.YML": "names:\n  0: person\n  1: bicycle\n  2: car\n",
    "labels.pbtxt": LABEL_MAP,
    "label_map.txt": LABEL_MAP.partition("\n")[2],
    "header.csv": "class_id,name,color\n0,person,red\n1,bicycle,blue\n2,car,green\n",
    "names.csv": "Label\nperson\nbicycle\ncar\n",
    "unsorted.csv": "name,id\ncar,3\nperson,1\nbicycle,2\n",
    "plain.csv": "0,person\n1,bicycle\n2,car\n",
    "tabs.tsv": "index\tname\n0\tperson\n1\tbicycle\n2\tcar\n",
    "list.JSON": json.dumps(THREE),
    "config.json": json.dumps({"label2id": {"car": 2, "person": 0, "bicycle": 1}}),
    "both.json": json.dumps({"label2id": {"x": 0}, "id2label": dict(enumerate(THREE))}),
    "map.json": json.dumps({"person": 0, "bicycle": 1, "car": 2}),
    "instances.json": json.dumps(
        {"images": [], "categories": [{"id": number, "name": name} for number, name in enumerate(THREE, 1)]}
    ),
    "json in a text.txt": json.dumps(THREE),
}

REFUSED = {
    "gap.txt": ("0: person\n2: car\n", "not 0, 1, 2 or 1, 2, 3"),
    "twice.txt": ("0: person\n0: car\n", "not 0, 1, 2 or 1, 2, 3"),
    "from five.txt": ("5 person\n6 car\n", "not 0, 1, 2 or 1, 2, 3"),
    "some.txt": ("0: person\n1: bicycle\ncar\n", "not before 'car'"),
    "coco.json": (
        json.dumps({"categories": [{"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}]}),
        "coco80.*coco90",
    ),
    "header.csv": ("colour,size\nred,1\n", "columns colour, size; one must be called"),
    "short.csv": ("id,name\n0,person\n1\n", "other lengths than its header"),
    "no number.csv": ("id,name\nx,person\n", "column id holds something else"),
    "empty name.csv": ("id,name\n0,person\n1,\n", "has an empty line 2"),
    "broken.yaml": ("names: [a, b\n", "cannot be read as YAML"),
    "nothing.yaml": ("train: images\n", "holds no labels"),
    "nothing.pbtxt": ("model {}\n", "holds no label map"),
    "no id.pbtxt": ('item { name: "person" }', "must have an id of its own"),
    "same id.pbtxt": ('item { id: 1 name: "a" } item { id: 1 name: "b" }', "must have an id of its own"),
    "huge id.pbtxt": ('item { id: 1 name: "a" } item { id: 99999999 name: "b" }', "holds no label map"),
    "nul.txt": ("person\0\ncar\n", "NUL characters"),
    "comments alone.txt": ("# nothing\n", "is empty"),
}


@pytest.mark.parametrize("name", READ)
def test_a_form_is_read_in_the_order_of_the_classes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(READ[name], "utf-8")
    assert read_label_file(tmp_path / name) == THREE


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_certain_reading_is_refused(tmp_path: Path, name: str) -> None:
    text, message = REFUSED[name]
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(LabelsUnreadable, match=message):
        read_label_file(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_encodings_are_told_by_their_mark(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("Straße\ncar\n", encoding)
    if encoding in ("utf-16-le", "utf-16-be"):  # these write no mark
        with pytest.raises(LabelsUnreadable, match=r"labels\.txt (holds NUL|cannot be read)"):
            read_label_file(path)
    else:
        assert read_label_file(path) == ("Straße", "car")


def test_a_label_map_may_leave_numbers_out(tmp_path: Path) -> None:
    path = tmp_path / "mscoco.pbtxt"
    path.write_text('item { id: 1 display_name: "person" } item { id: 3 display_name: "car" }')
    assert read_label_file(path) == ("person", "class 2", "car")


@pytest.mark.parametrize(
    "labels",
    [
        ("class 1", "class 2"),
        ("10 speed bike", "car", "tram"),
        ("2", "1", "0"),
        ("#1", "#2"),
        ("key: value", "other: 7"),
        ("7up",),
    ],
)
def test_names_that_only_look_numbered_stay(tmp_path: Path, labels: tuple[str, ...]) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("".join(f"{label}\n" for label in labels))
    assert read_label_file(path) == labels


def test_a_hand_written_models_labels_are_read_in_the_same_way(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "names.yaml").write_text("names: {0: person, 1: car}\n")
    (folder / "model.toml").write_text(
        '[model]\nobjective = "object_tracking"\n[labels]\nfile = "names.yaml"\n'
        '[input]\nwidth = 64\nheight = 64\n[output]\nhead = "yolov8"\n'
    )
    assert [label.display_name for label in load_manifest(folder).labels] == ["person", "car"]


@pytest.mark.parametrize("value", [True, None, 1.5, "", " ", "a\nb", "# remark", "a\0b"])
def test_what_cannot_be_a_line_of_labels_is_no_name(value: object) -> None:
    assert not is_name(value)
