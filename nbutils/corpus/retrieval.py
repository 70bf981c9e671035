"""Document to chunks to retriever, by llama-index. Never lets a chunk depend on where a file lies.

The readers' metadata (path, dates, size) is dropped before parsing: SentenceSplitter counts it
against the chunk size, so that the same file in another folder would be cut elsewhere.
"""

import logging
import re
from collections.abc import Mapping, Sequence

import pandas as pd
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.node_parser import MarkdownNodeParser, SentenceSplitter
from llama_index.core.schema import BaseNode, TextNode
from llama_index.retrievers.bm25 import BM25Retriever  # type: ignore[import-untyped]

from nbutils.corpus.documents import HEADING, DocumentError
from nbutils.corpus.vectors import StoredEmbedding
from nbutils.records import Chunk, Question

CHUNK_TOKENS = 320  # of tiktoken's gpt-3.5-turbo encoding, the section's header path counted
NO_HEADING = "(no heading)"

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it logs each index that it builds


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


def says_something(chunk: Chunk) -> bool:
    """Whether a chunk holds more than headings: others are neither asked about nor retrieved."""
    return any(line.strip() and not HEADING.match(line) for line in chunk.text.splitlines())


class Retriever:
    """The nearest chunks to a question: BM25, or a vector index where an embedding is given.

    Both are llama-index's, over nodes that hold text and no metadata: BM25Retriever, and
    VectorStoreIndex with cosine similarity.
    """

    def __init__(
        self, chunks: Sequence[Chunk], top_k: int = 1, embedding: StoredEmbedding | None = None
    ) -> None:
        """Raises DocumentError on fewer than top_k chunks, EmbeddingError where one has no vector.

        With an embedding, all chunks are embedded here in one go.
        """
        texts = {item.chunk_id: item.text for item in chunks if says_something(item)}
        if len(texts) < top_k:
            have = f"there are {len(texts)} chunks, and top_k is {top_k}"
            raise DocumentError(f"{have}: lower top_k or give a longer document")
        nodes: list[BaseNode] = [TextNode(id_=name, text=text) for name, text in texts.items()]
        self._embedding = embedding
        self._index: BaseRetriever
        if embedding is None:
            self._index = BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=top_k)
        else:
            embedding.need(texts, "chunks")
            index = VectorStoreIndex(nodes, embed_model=embedding)
            self._index = index.as_retriever(similarity_top_k=top_k)

    def top(self, question: str) -> list[str]:
        """The ids of the top_k chunks for a question, best first."""
        return [found.node.node_id for found in self._index.retrieve(question)]

    def find(self, questions: Mapping[str, str]) -> tuple[dict[str, list[str]], dict[str, str]]:
        """For each question, by its id: the ids of its chunks, or why it has none.

        A vector index embeds all questions in one go, and one that has no vector cannot be placed.
        """
        failed = self._embedding.fetch(questions, "questions") if self._embedding else {}
        found = {name: self.top(text) for name, text in questions.items() if name not in failed}
        return found, failed


def hit_rate(questions: Sequence[Question], found: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """How often retrieval found the gold chunk: one row a split and one for all questions.

    `found` maps a question's id to the retrieved chunk ids, k of them. Columns: questions, hits
    (counts) and hit_rate = hits / questions. The mixed split misses nearly always: a question is in
    it because its source came from elsewhere, so only the row of all questions says how good
    retrieval is.
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
