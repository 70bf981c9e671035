import warnings

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from nbutils.corpus.documents import DocumentError, load_document
from nbutils.corpus.retrieval import chunk
from nbutils.profiles import DATA


def save_pdf(path, pages, password=""):
    """A PDF with one page for each list of lines, set in Helvetica."""
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
            NameObject("/Encoding"): NameObject("/WinAnsiEncoding"),
        }
    )
    for lines in pages:
        page = writer.add_blank_page(600, 800)
        shown = " ".join(f"({line}) Tj T*" for line in lines)
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 14 TL 50 700 Td {shown} ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
        fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    if password:
        writer.encrypt(password)
    writer.write(path)
    return path


def test_the_recorded_document_is_read_byte_for_byte():
    path = DATA / "document.md"
    assert load_document(path).encode() == path.read_bytes()


def test_line_ends_and_byte_order_mark_do_not_change_the_text(tmp_path):
    (tmp_path / "x.md").write_bytes(b"\xef\xbb\xbf# T\r\n\r\nBoats.\r\n")
    assert load_document(tmp_path / "x.md") == "# T\n\nBoats.\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.md", b"caf\xe9", "x.md: is not UTF-8 .*; save it as UTF-8"),
        ("x.md", b" \n\n", "x.md: holds no text"),
        ("x.docx", b"PK", "x.docx: '.docx' is none of .md, .txt, .pdf; convert it"),
        ("y.md", b"text", "x.md: there is no such file"),
        ("x.pdf", b"%PDF-1.7 cut", r"x.pdf: cannot be read \(PdfStreamError: .*\); save it anew"),
    ],
)
def test_a_document_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DocumentError, match=message):
        load_document(tmp_path / ("x" + (tmp_path / name).suffix))


def test_a_pdfs_pages_are_sections(tmp_path):
    path = save_pdf(tmp_path / "x.pdf", [["Seals are counted", "in May."], ["The boat leaks."]])
    assert (
        load_document(path)
        == "# Page 1\n\nSeals are counted\nin May.\n\n# Page 2\n\nThe boat leaks."
    )
    assert [piece.section for piece in chunk(load_document(path))] == ["Page 1", "Page 2"]


def test_a_line_of_a_pdf_is_no_heading_and_no_fence(tmp_path):
    path = save_pdf(tmp_path / "x.pdf", [["# Boats", "```", "one"], ["# Radio", "two"]])
    chunks = chunk(load_document(path))
    assert [piece.section for piece in chunks] == ["Page 1", "Page 2"]
    assert chunks[0].text == "# Page 1\n\n\\# Boats\n\\```\none"


def test_pages_without_text_are_left_out_with_a_warning(tmp_path):
    path = save_pdf(tmp_path / "x.pdf", [["one"], [], ["three"]])
    with pytest.warns(UserWarning, match=r"x.pdf: pages without text are left out: 2$"):
        text = load_document(path)
    assert text == "# Page 1\n\none\n\n# Page 3\n\nthree"  # the third page keeps its number


def test_a_scanned_pdf_is_an_error(tmp_path):
    path = save_pdf(tmp_path / "x.pdf", [[], []])
    with pytest.raises(DocumentError, match=r"x.pdf: none of its 2 pages holds text; .*\(OCR\)"):
        load_document(path)


def test_a_locked_pdf_is_an_error(tmp_path):
    path = save_pdf(tmp_path / "x.pdf", [["one"]], password="secret")
    with pytest.raises(
        DocumentError, match="x.pdf: cannot be read .*decrypted.*without a password"
    ):
        load_document(path)


def folder_of(tmp_path, **files):
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_folders_files_are_its_sections_in_the_order_of_their_names(tmp_path):
    folder = folder_of(
        tmp_path,
        b_dot_txt="Radio.",
        a_dot_md="# Boats\none\n## Dunlin\ntwo\n",
        sub__c_dot_md="three",
        _dot_hidden_dot_md="secret",
        _dot_git__d_dot_md="secret",
    )
    text = load_document(folder)
    assert text == (
        "# a.md\n\n## Boats\none\n### Dunlin\ntwo\n\n\n# b.txt\n\nRadio.\n\n# sub/c.md\n\nthree"
    )
    named = [piece.section for piece in chunk(text)]
    assert named == ["a.md", "a.md", "a.md", "b.txt", "sub/c.md"]


def test_a_code_block_of_one_file_does_not_reach_into_the_next(tmp_path):
    folder = folder_of(tmp_path, a_dot_md="one\n```\n# no heading", b_dot_md="two")
    text = load_document(folder)
    assert text == "# a.md\n\none\n```\n# no heading\n```\n\n# b.md\n\ntwo"
    assert [piece.section for piece in chunk(text)] == ["a.md", "b.md"]


def test_a_folder_of_one_file_is_that_file(tmp_path):
    text = "# Boats\none\n# Radio\ntwo\n"
    assert load_document(folder_of(tmp_path, a_dot_md=text)) == text


def test_a_folders_other_files_are_named(tmp_path):
    folder = folder_of(tmp_path, a_dot_md="one", sub__b_dot_docx="PK", c_dot_png="")
    with pytest.warns(UserWarning, match=r"left out, being no .md, .txt, .pdf: c.png, sub/b.docx$"):
        assert load_document(folder) == "one"


def test_an_unreadable_file_of_a_folder_is_named(tmp_path):
    folder = folder_of(tmp_path, a_dot_md="one", b_dot_txt=" ")
    with pytest.raises(DocumentError, match="b.txt: holds no text"):
        load_document(folder)


def test_a_folder_without_documents_is_an_error(tmp_path):
    with pytest.raises(DocumentError, match="holds no .md, .txt, .pdf file; name a folder"):
        load_document(tmp_path)


def test_nothing_is_warned_of_where_all_is_read(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_document(save_pdf(tmp_path / "x.pdf", [["one"]]))
