"""Reads label files in the forms that frameworks write. A file without a certain reading is refused.

The server imports this module, so it imports no numpy, and a YAML parser only when needed.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emulator.files import cause, read_bounded
from emulator.members import is_integer

MOST_LABELS_BYTES = 4 << 20
MOST_LABELS = 100_000

#: The keys of the names in JSON and YAML: Hugging Face, Ultralytics, COCO, torchvision's folders.
_KEYS = ("id2label", "names", "categories", "labels", "classes", "label2id", "class_to_idx")
_NAME_COLUMNS = (
    "display_name",
    "displayname",
    "name",
    "label_name",
    "class_name",
    "label",
    "class",
    "category",
)
_NUMBER_COLUMNS = ("id", "index", "idx", "class_id", "class_index", "label_id", "category_id", "number")
_NUMBERED = re.compile(r"(\d+)(?:\s*[:,;=]\s*|\s+)(\S.*)")
_NUMBERED_AFTER = re.compile(r"(.*\S)\s*[:,;=\t]\s*(\d+)")
_ITEM = re.compile(r"\bitem\s*\{(.*?)\}", re.DOTALL)
_FIELD = re.compile(r"\b(id|name|display_name)\s*:\s*(?:\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|(\d+))")
_ONE_A_LINE = "it must hold one label a line, in the order of the outputs"


class LabelsUnreadable(ValueError):
    """The file has no labels that can be read with certainty; the message names the file and the remedy."""


def read_label_file(path: Path) -> tuple[str, ...]:
    """The labels in a file, in the order of their classes.

    The file holds one label a line, numbered or not, or is JSON, YAML, CSV or a label map of TensorFlow
    (pbtxt).

    Raises:
        LabelsUnreadable: see there.
    """
    text = _text(path)
    kind = path.suffix.lower()
    if kind == ".json" or (text.lstrip()[:1] in ("{", "[") and _is_json(text)):
        labels = _from_json(text, path)
    elif kind in (".yaml", ".yml") or re.search(r"^names\s*:", text, re.MULTILINE):
        labels = _from_yaml(text, path)
    elif kind == ".pbtxt" or re.match(r"\s*item\s*\{", text):
        labels = _from_label_map(text, path)
    elif kind in (".csv", ".tsv"):
        labels = _from_table(text, path)
    else:
        labels = _from_lines(text.split("\n"), path)
    if len(labels) > MOST_LABELS:
        raise LabelsUnreadable(f"{path} has {len(labels):,} labels; {MOST_LABELS:,} are the most")
    return labels


def listed(value: Any) -> tuple[str, ...] | None:
    """Names from a list, or from a table of numbers and names (in either direction).

    None if there are no names, or if the numbers are not 0, 1, 2 and so on.
    """
    if isinstance(value, Mapping):
        pairs = [(number, name) for number, name in value.items() if _is_number(number)]
        if len(pairs) != len(value):
            pairs = [(number, name) for name, number in value.items() if _is_number(number)]
        if len(pairs) != len(value):
            return None
        value = _ordered(((int(number), name) for number, name in pairs), first=(0,))
    if not isinstance(value, list | tuple) or not value or not all(map(is_name, value)):
        return None
    return tuple(str(label).strip() for label in value)


def is_name(value: object) -> bool:
    """Whether a value can be a line of labels.txt."""
    if not isinstance(value, str) and not is_integer(value):
        return False
    text = str(value).strip()
    return bool(text) and not re.search(r"[\n\r\0]", text) and not _is_comment(text)


def _text(path: Path) -> str:
    try:
        data = read_bounded(path, MOST_LABELS_BYTES)
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = cause(error) if isinstance(error, OSError) else error
        raise LabelsUnreadable(f"{path} cannot be read ({why}); it must hold one label a line") from error
    if "\0" in text:
        raise LabelsUnreadable(f"{path} holds NUL characters; save it as UTF-8, with one label a line")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _from_json(text: str, path: Path) -> tuple[str, ...]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LabelsUnreadable(f"the labels in {path} cannot be read: {error}") from error
    return _from_document(document, path)


def _from_yaml(text: str, path: Path) -> tuple[str, ...]:
    import yaml

    try:
        # BaseLoader reads everything as text: a label may be called "no" or "1.0".
        document = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise LabelsUnreadable(f"the labels in {path} cannot be read as YAML: {error}") from error
    return _from_document(document, path)


def _from_document(document: Any, path: Path) -> tuple[str, ...]:
    value = document
    if isinstance(document, Mapping):
        value = next((document[key] for key in _KEYS if key in document), document)
    labels = _of_categories(value, path) or listed(value)
    if labels is None:
        raise LabelsUnreadable(
            f"{path} holds no labels; a list of names is needed, or id2label with a name for 0, 1, 2 and so "
            f"on, each of one line (known keys are {', '.join(_KEYS)})"
        )
    return labels


def _of_categories(value: Any, path: Path) -> tuple[str, ...] | None:
    """The names of COCO's `categories`, tables with `id` and `name`; None if it is another list."""
    if not isinstance(value, list) or not all(isinstance(one, Mapping) and "name" in one for one in value):
        return None
    if not all(is_name(one["name"]) and _is_number(one.get("id", 0)) for one in value):
        return None
    if not any("id" in one for one in value):
        return tuple(str(one["name"]).strip() for one in value)
    numbered = [(int(one.get("id", -1)), one["name"]) for one in value]
    names = _ordered(numbered)
    if names is None:
        raise LabelsUnreadable(
            f"the ids in {path} are not 0, 1, 2 or 1, 2, 3 and so on; some models count "
            "its names one after another (for COCO that is --labels coco80), others by their ids (coco90): "
            "give a file with one label a line, in the order of the outputs"
        )
    return tuple(str(name).strip() for name in names)


def _from_label_map(text: str, path: Path) -> tuple[str, ...]:
    """Read a TensorFlow label map: `item { id: 1 name: "person" }`. Missing numbers get a made-up name."""
    numbered: dict[int, str] = {}
    bare = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    for item in _ITEM.findall(bare):
        fields = {key: double or single or number for key, double, single, number in _FIELD.findall(item)}
        name = fields.get("display_name") or fields.get("name", "")
        if not fields.get("id", "").isdecimal() or not is_name(name) or int(fields["id"]) in numbered:
            raise LabelsUnreadable(
                f"{path}: an item is {{{item.strip()[:100]}}}; each must have an id of its own and a name "
                "of one line"
            )
        numbered[int(fields["id"])] = name.strip()
    if not numbered or not set(numbered) & {0, 1} or max(numbered) >= MOST_LABELS:
        raise LabelsUnreadable(
            f'{path} holds no label map; it must have items such as item {{ id: 1 name: "x" }}'
        )
    return tuple(
        numbered.get(number, f"class {number}") for number in range(min(numbered), max(numbered) + 1)
    )


def _from_table(text: str, path: Path) -> tuple[str, ...]:
    """Read a CSV file with a header, or one whose rows are a name, or a number and a name."""
    try:
        dialect = csv.excel_tab if "\t" in text.partition("\n")[0] else csv.excel
        rows = [row for row in csv.reader(text.split("\n"), dialect, strict=True) if any(map(str.strip, row))]
    except csv.Error as error:
        raise LabelsUnreadable(f"the labels in {path} cannot be read as CSV: {error}") from error
    header = [column.strip().lower() for column in rows[0]] if rows else []
    name = next((header.index(column) for column in _NAME_COLUMNS if column in header), None)
    number = next((header.index(column) for column in _NUMBER_COLUMNS if column in header), None)
    if name is None:
        if _is_plain(rows):
            return _from_lines([": ".join(cell.strip() for cell in row) for row in rows], path)
        raise LabelsUnreadable(
            f"{path} has the columns {', '.join(header)[:200]}; one must be called {', '.join(_NAME_COLUMNS)}"
        )
    body = rows[1:]
    if any(len(row) != len(header) for row in body):
        raise LabelsUnreadable(f"{path} has rows of other lengths than its header; {_ONE_A_LINE}")
    names = [row[name].strip() for row in body]
    if number is None:
        return _checked(names, path)
    numbers = [row[number].strip() for row in body]
    if not all(map(_is_number, numbers)):
        raise LabelsUnreadable(f"{path}: column {header[number]} holds something else than numbers")
    return _checked(_gapless(zip(map(int, numbers), names, strict=True), path), path)


def _is_plain(rows: Sequence[Sequence[str]]) -> bool:
    """Whether each row is a name, or a number and a name in the same order."""
    widths = {len(row) for row in rows}
    return widths == {1} or (
        widths == {2} and any(all(_is_number(row[column]) for row in rows) for column in (0, 1))
    )


def _from_lines(lines: Sequence[str], path: Path) -> tuple[str, ...]:
    if len(lines) > MOST_LABELS + 1:
        raise LabelsUnreadable(f"{path} has {len(lines) - 1:,} lines; {MOST_LABELS:,} labels are the most")
    names = [line.strip() for line in lines if not _is_comment(line.strip())]
    while names and not names[-1]:
        names.pop()
    labels = _checked(names, path)
    for pattern, swapped in ((_NUMBERED, False), (_NUMBERED_AFTER, True)):
        matches = [pattern.fullmatch(line) for line in labels]
        found = [match.groups() for match in matches if match]
        pairs = [(int(b), a) if swapped else (int(a), b) for a, b in found]
        if len(found) == len(labels) and (not swapped or _ordered(pairs)):
            return tuple(_unquoted(name) for name in _gapless(pairs, path))
        if not swapped and len(found) > 1 and 2 * len(found) > len(labels):
            where = next(number for number, match in enumerate(matches) if not match)
            raise LabelsUnreadable(
                f"{path} has numbers before most of its labels, but not before {labels[where]!r}; "
                "number them all, from 0 or 1, or none"
            )
    return labels


def _checked(names: Sequence[str], path: Path) -> tuple[str, ...]:
    """The names. Refuses an empty one, because all numbers after it would shift."""
    if not names or not all(names):
        where = f"has an empty line {list(names).index('') + 1}" if names else "is empty"
        raise LabelsUnreadable(f"{path} {where}; {_ONE_A_LINE}")
    return tuple(names)


def _gapless(pairs: Iterable[tuple[int, str]], path: Path) -> Sequence[str]:
    names = _ordered(pairs)
    if names is None:
        raise LabelsUnreadable(
            f"the numbers before the labels in {path} are not 0, 1, 2 or 1, 2, 3 and so on; {_ONE_A_LINE}"
        )
    return names


def _ordered(pairs: Iterable[tuple[int, Any]], first: Sequence[int] = (0, 1)) -> list[Any] | None:
    """The values in the order of their numbers; None if these have gaps or do not begin with `first`."""
    taken = list(pairs)
    numbered = dict(taken)
    for start in first:
        if len(numbered) == len(taken) and sorted(numbered) == list(range(start, start + len(taken))):
            return [numbered[number] for number in sorted(numbered)]
    return None


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return bool(re.fullmatch(r"[0-9]{1,6}", value.strip()))
    return is_integer(value, 0, 10 * MOST_LABELS - 1)


def _is_comment(line: str) -> bool:
    return line == "#" or line.startswith(("# ", "#\t"))


def _unquoted(name: str) -> str:
    quoted = len(name) > 2 and name[0] == name[-1] and name[0] in "'\""
    return name[1:-1] if quoted else name
