"""Document to chunks to retriever, by llama-index. Never lets a chunk depend on where a file lies.

The readers' metadata (path, dates, size) is dropped before parsing: SentenceSplitter counts it
against the chunk size, so that the same file in another folder would be cut elsewhere.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from llama_index.core import Document, SimpleDirectoryReader
from llama_index.core.node_parser import MarkdownNodeParser, SentenceSplitter
from llama_index.core.schema import BaseNode, TextNode
from llama_index.retrievers.bm25 import BM25Retriever  # type: ignore[import-untyped]

from nbutils.records import Chunk, Question

CHUNK_TOKENS = 320  # of tiktoken's gpt-3.5-turbo encoding, the section's header path counted
SUFFIXES = (".md", ".txt")
NO_HEADING = "(no heading)"

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it logs each index that it builds
# It warns that PDF and other readers are not installed: only text is read here.
logging.getLogger("llama_index.core.readers.file.base").setLevel(logging.ERROR)


class DocumentError(ValueError):
    """A document that cannot be read or cut; the message names the file and the remedy."""


def load_document(path: str | Path) -> str:
    """The text of a Markdown or plain text file, read by llama-index; line ends become \\n.

    Raises DocumentError where the file is missing, of another kind, not UTF-8 or without text.
    """
    path = Path(path)
    if not path.is_file():
        raise DocumentError(f"{path}: there is no such file; name a Markdown or text file")
    if path.suffix.lower() not in SUFFIXES:
        why = f"'{path.suffix}' is not {' or '.join(SUFFIXES)}"
        raise DocumentError(f"{path}: {why}; convert it to Markdown, one heading a section")
    try:
        [document] = SimpleDirectoryReader(input_files=[path], errors="strict").load_data()
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path}: is not UTF-8 ({error}); save it as UTF-8 text") from None
    text = document.text.removeprefix("\ufeff").replace("\r\n", "\n")
    if not text.strip():
        raise DocumentError(f"{path}: holds no text; name a document with something to ask about")
    return text


def chunk(text: str) -> list[Chunk]:
    """Cuts Markdown into sections, then into chunks of at most 320 tokens that never cross one.

    Chunks are numbered c00, c01, ... in the document's order. A chunk's section is its highest
    heading below the document's title (a title is a top heading that all others stand under), so
    that `## Boats` and its `### Dunlin` are one section, which a split keeps whole.
    """
    sections = MarkdownNodeParser().get_nodes_from_documents([Document(text=text)])
    names = _section_names([node.get_content() for node in sections])
    splitter = SentenceSplitter(chunk_size=CHUNK_TOKENS, chunk_overlap=0)
    pieces = [
        (name, piece.get_content().strip())
        for name, node in zip(names, sections, strict=True)
        for piece in splitter([node])
    ]
    kept = [(name, piece) for name, piece in pieces if piece]
    return [Chunk(f"c{n:02d}", name, piece) for n, (name, piece) in enumerate(kept)]


class Retriever:
    """BM25 over chunks: llama-index's BM25Retriever on nodes that hold text and no metadata."""

    def __init__(self, chunks: Sequence[Chunk], top_k: int = 1) -> None:
        if len(chunks) < top_k:
            have = f"there are {len(chunks)} chunks, and top_k is {top_k}"
            raise DocumentError(f"{have}: lower top_k or give a longer document")
        nodes: list[BaseNode] = [TextNode(id_=item.chunk_id, text=item.text) for item in chunks]
        self._bm25 = BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=top_k)

    def top(self, question: str) -> list[str]:
        """The ids of the top_k chunks for a question, best first."""
        return [found.node.node_id for found in self._bm25.retrieve(question)]


def hit_rate(questions: Sequence[Question], found: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """How often retrieval found the gold chunk: one row a split and one for all questions.

    `found` maps a question's id to the retrieved chunk ids. Columns: questions, hits (counts) and
    hit_rate = hits / questions. The mixed split misses nearly always: a question is in it because
    its source came from elsewhere, so only the row of all questions says how good retrieval is.
    """
    hits = pd.DataFrame(
        [(q.split, q.chunk_id in found[q.question_id]) for q in questions], columns=["split", "hit"]
    )
    both = pd.concat([hits.assign(split="all"), hits])
    table = both.groupby("split", sort=False)["hit"].agg(questions="size", hits="sum")
    return table.assign(hit_rate=table["hits"] / table["questions"])


def _section_names(texts: Sequence[str]) -> list[str]:
    """For each section's text, the name of the whole section that it belongs to."""
    paths: list[list[str]] = []
    stack: list[tuple[int, str]] = []  # (level, heading) from the top heading down
    for text in texts:
        match = re.match(r"(#+)\s(.*)", text)
        if match:
            level = len(match[1])
            stack = [above for above in stack if above[0] < level] + [(level, match[2].strip())]
        paths.append([heading for _, heading in stack])
    titled = len({path[0] for path in paths if path}) == 1
    return [path[min(titled, len(path) - 1)] if path else NO_HEADING for path in paths]
