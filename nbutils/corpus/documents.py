"""Files to one Markdown text, by llama-index's readers. Never passes over a file in silence."""

import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from llama_index.core import SimpleDirectoryReader

SUFFIXES = (".md", ".txt", ".pdf")
HEADING = re.compile(r"#+\s")
FENCE = "```"

# It warns of readers that are not installed, all but one of them for kinds that are not read here.
logging.getLogger("llama_index.core.readers.file.base").setLevel(logging.ERROR)
logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of each oddity that it gets over


class DocumentError(ValueError):
    """A document that cannot be read or cut; the message names the file and the remedy."""


def load_document(path: str | Path) -> str:
    """The text of a .md, .txt or .pdf file, or of a folder of them, as one Markdown text.

    Line ends become \\n; a .md or .txt file is otherwise kept as it is. A page of a PDF becomes a
    section, `# Page 3`: the third page of the file, whatever number is printed on it. In a folder
    each file becomes a section, `# notes/boats.md`, with the file's own headings below it, in the
    order of the names; a folder of one file is that file. Hidden files and folders are skipped;
    files of other kinds and pages without text are left out with a warning that names them.

    Raises DocumentError where a file is missing, of another kind, not UTF-8, damaged or locked,
    or without text (a scanned PDF).
    """
    path = Path(path)
    left_out: list[str] = []
    files = _files_of(path, left_out) if path.is_dir() else [path]
    texts = [_load_file(file, left_out) for file in files]
    for what in left_out:
        warnings.warn(what, stacklevel=2)
    if len(files) == 1:
        return texts[0]
    return "\n\n".join(
        f"# {file.relative_to(path).as_posix()}\n\n{_one_level_down(text)}"
        for file, text in zip(files, texts, strict=True)
    )


def _files_of(folder: Path, left_out: list[str]) -> list[Path]:
    """The files of a folder and its subfolders that can be read, by their names."""
    found = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(p.startswith(".") for p in file.relative_to(folder).parts)
    )
    files = [file for file in found if file.suffix.lower() in SUFFIXES]
    others = [file.relative_to(folder).as_posix() for file in found if file not in set(files)]
    if not files:
        have = f"{folder}: holds no {', '.join(SUFFIXES)} file"
        raise DocumentError(f"{have}; name a folder of documents or one file")
    if others:
        kinds = ", ".join(SUFFIXES)
        left_out.append(f"{folder}: left out, being no {kinds}: {', '.join(others)}")
    return files


def _load_file(path: Path, left_out: list[str]) -> str:
    if not path.is_file():
        raise DocumentError(f"{path}: there is no such file; name a {', '.join(SUFFIXES)} file")
    if path.suffix.lower() not in SUFFIXES:
        why = f"'{path.suffix}' is none of {', '.join(SUFFIXES)}"
        raise DocumentError(f"{path}: {why}; convert it to Markdown, one heading a section")
    pages = _read(path)
    if path.suffix.lower() == ".pdf":
        return _join_pages(path, pages, left_out)
    text = pages[0].removeprefix("\ufeff").replace("\r\n", "\n")
    if not text.strip():
        raise DocumentError(f"{path}: holds no text; name a document with something to ask about")
    return text


def _read(path: Path) -> list[str]:
    """The file's text, or that of each page of a PDF."""
    reader = SimpleDirectoryReader(input_files=[path], errors="strict", raise_on_error=True)
    try:
        return [document.text for document in reader.load_data()]
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path}: is not UTF-8 ({error}); save it as UTF-8 text") from None
    except ImportError as error:
        raise DocumentError(f"{path}: {error}; install it, or convert the file") from None
    except Exception as error:  # whatever the reader of the kind raised
        remedy = "save it anew, without a password, or take it away"
        raise DocumentError(f"{path}: cannot be read ({_root(error)}); {remedy}") from error


def _join_pages(path: Path, pages: list[str], left_out: list[str]) -> str:
    empty = [number for number, page in enumerate(pages, 1) if not page.strip()]
    if len(empty) == len(pages):
        remedy = "if it is scanned, put it through text recognition (OCR) first"
        raise DocumentError(f"{path}: none of its {len(pages)} pages holds text; {remedy}")
    if empty:
        which = ", ".join(map(str, empty))
        left_out.append(f"{path}: pages without text are left out: {which}")
    return "\n\n".join(
        f"# Page {number}\n\n{_plain(page)}"
        for number, page in enumerate(pages, 1)
        if number not in empty
    )


def _plain(page: str) -> str:
    """A page's text, where what looks like Markdown's headings and fences is neither.

    Half a character (a lone surrogate), which no file or request can hold, becomes a mark for it.
    """
    page = page.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    lines = page.replace("\r\n", "\n").strip().split("\n")
    return "\n".join(
        f"\\{line}" if HEADING.match(line) or line.lstrip().startswith(FENCE) else line
        for line in lines
    )


def _one_level_down(text: str) -> str:
    """Markdown with each heading one level lower and its last code block closed."""
    lines = []
    for line, is_code in _lines(text):
        lines.append(f"#{line}" if not is_code and HEADING.match(line) else line)
    fences = sum(line.lstrip().startswith(FENCE) for line in lines)
    return "\n".join([*lines, FENCE] if fences % 2 else lines)


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it stands in a code block, as MarkdownNodeParser sees it."""
    is_code = False
    for line in text.split("\n"):
        if line.lstrip().startswith(FENCE):
            is_code = not is_code
        yield line, is_code


def _root(error: BaseException) -> str:
    """In one line, what lies at the bottom of an error: tenacity's RetryError tells nothing."""
    attempt = getattr(error, "last_attempt", None)
    below = (attempt.exception() if attempt else None) or error.__cause__
    return _root(below) if below else " ".join(f"{type(error).__name__}: {error}".split())
