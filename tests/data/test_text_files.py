import errno
import json
import os
import socket

import pyarrow
import pyarrow.parquet
import pytest

from pellucid.data.text_files import TextFiles
from pellucid.errors import DataError


def read(path, **fields):
    corpus = TextFiles.Config(path=str(path), **fields).build()
    return list(corpus.documents()), corpus.left_out.reasons


def counts(reasons):
    return {reason: entry["count"] for reason, entry in reasons.items()}


def test_a_folder_is_read_in_order_without_what_is_hidden_binary_or_foreign(text_folder):
    (text_folder / "sub").mkdir()
    (text_folder / "sub" / "notes.md").write_bytes("# Grüße\r\n".encode())
    (text_folder / ".hidden").write_text("no")
    (text_folder / ".git").mkdir()
    (text_folder / ".git" / "config").write_text("no")
    (text_folder / "image.png").write_bytes(b"\x89PNG\0\0")
    (text_folder / "latin.txt").write_bytes(b"caf\xe9")
    documents, reasons = read(text_folder)
    assert [d.name for d in documents] == [f"file{i:02d}.txt" for i in range(12)] + ["sub/notes.md"]
    assert documents[-1].text == "# Grüße\r\n"
    assert counts(reasons) == {"binary": 1, "not UTF-8": 1}
    assert reasons["binary"]["examples"] == ["image.png"]


def test_groups_are_files_or_top_level_folders(text_folder):
    for name in ("a/x.txt", "a/b/y.txt"):
        (text_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (text_folder / name).write_text(name)
    by_file = {d.name: d.group for d in read(text_folder)[0]}
    by_folder = {d.name: d.group for d in read(text_folder, group="folder")[0]}
    assert by_file["a/x.txt"] == "a/x.txt" and by_file["a/b/y.txt"] == "a/b/y.txt"
    assert by_folder["a/x.txt"] == by_folder["a/b/y.txt"] == "a"
    assert by_folder["file00.txt"] == "file00.txt"


@pytest.mark.parametrize("inside_a_folder", [False, True])
def test_a_single_file_is_cut_at_line_ends_and_nothing_is_lost(tmp_path, inside_a_folder):
    book = tmp_path / "book.txt"
    text = "".join(f"line {number} of a long book\n" for number in range(2000)) + "the end"
    book.write_text(text)
    documents, _ = read(tmp_path if inside_a_folder else book)
    assert "".join(d.text for d in documents) == text
    assert len(documents) > 10
    assert all(d.text.endswith("\n") and len(d.text) >= 2048 for d in documents[:-1])
    assert len({d.group for d in documents}) == len(documents)


def test_json_lines_are_read_by_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"body": f"text {i}", "n": i}).encode() for i in range(3)]
    path.write_bytes(b"\n".join([*lines, b"", b'{"body": null}', b'{"body": "caf\xe9"}']))
    documents, reasons = read(path, text_field="body")
    assert [(d.name, d.text) for d in documents] == [
        (f"rows.jsonl#{i + 1}", f"text {i}") for i in range(3)
    ]
    assert len({d.group for d in documents}) == 3
    assert counts(reasons) == {"rows without text": 1, "rows not UTF-8": 1}


def test_parquet_is_read_by_row(tmp_path):
    table = pyarrow.table({"id": [1, 2, 3], "content": ["one", None, "three"]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    documents, reasons = read(tmp_path, text_field="content")
    assert [d.text for d in documents] == ["one", "three"]
    assert counts(reasons) == {"rows without text": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{broken\n', r"rows\.jsonl, line 2: Expecting property name"),
        ('{"body": "a"}\n', r"row 1: there is no field data\.text_field='text'.* are 'body'"),
        ("{}\n", r"row 1: there is no field data\.text_field='text'; the fields are none"),
        ('["a"]\n', r"rows\.jsonl, line 1: the row \['a'\] is not a JSON object"),
        ("[" * 100_000, r"line 1: .*every line has to be one JSON object"),
    ],
)
def test_bad_json_lines_name_the_file_and_the_line(tmp_path, content, message):
    (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_bad_parquet_names_the_file_and_the_columns(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"not parquet")
    with pytest.raises(DataError, match=r"rows\.parquet cannot be read as Parquet"):
        read(path)
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "content": ["one"]}), path)
    with pytest.raises(DataError, match=r"no field data\.text_field='text'.*'id', 'content'"):
        read(path)


def test_only_regular_files_are_read(text_folder, monkeypatch):
    for name in ("gone.jsonl", "gone.parquet", "gone.txt"):
        (text_folder / name).symlink_to("nowhere")
    for name in ("pipe.jsonl", "pipe.parquet", "pipe.txt"):
        os.mkfifo(text_folder / name)
    monkeypatch.chdir(text_folder)  # the path of a socket may not be long
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind("socket")
    (text_folder / "linked.txt").symlink_to("file03.txt")
    documents, reasons = read(text_folder)
    assert len(documents) == 13
    assert counts(reasons) == {"not a regular file": 7}


def test_damaged_parquet_pages_name_the_file(tmp_path):
    path = tmp_path / "rows.parquet"
    rows = pyarrow.table({"text": [f"text {number}" * 20 for number in range(1000)]})
    pyarrow.parquet.write_table(rows, path, compression="zstd")
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\xff" * 1000 + whole[1004:])
    with pytest.raises(DataError, match=r"rows\.parquet cannot be read as Parquet"):
        read(path)


def test_a_disk_that_fails_in_json_lines_names_the_file(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    path.write_text("{}")

    def fail(self, mode):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(type(path), "open", fail)
    with pytest.raises(DataError, match=r"rows\.jsonl cannot be read: Input/output error"):
        read(path)


def test_no_path_and_a_missing_path_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"data\.path is empty: give the path"):
        TextFiles.Config().build()
    with pytest.raises(DataError, match=r"data\.path='.*nowhere' does not exist"):
        read(tmp_path / "nowhere")


def test_the_listing_changes_with_a_file(text_folder):
    def listing():
        return TextFiles.Config(path=str(text_folder)).build().listing()

    before = listing()
    assert listing() == before
    os.utime(text_folder / "file03.txt", ns=(1, 1))
    assert listing() != before
