"""The recorded replies of data/kestrel by the messages that they answer. Never makes one up."""

import hashlib
import json
from pathlib import Path
from typing import Any

from nbutils.callpath.exchange import UNRECORDED
from nbutils.callpath.recorded import recorded_calls
from nbutils.records import load_dataset

KESTREL = Path(__file__).parent.parent.parent / "data" / "kestrel"


def messages_key(messages: Any) -> str:
    """SHA-256 (hex) of the messages' roles and contents as JSON with sorted names, no spaces."""
    plain = [{"role": one["role"], "content": one["content"]} for one in messages]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def recorded_replies(folder: str | Path = KESTREL) -> dict[str, str]:
    """The replies of teacher, grader and question writer, by the key of the messages.

    Answers are left out, as their prompts were not kept. Two answers that are the same word for
    word make both orders one request; the first recorded reply stands for both.
    """
    replies: dict[str, str] = {}
    for call, reply in recorded_calls(load_dataset(folder)):
        if call.prompt != UNRECORDED:
            replies.setdefault(messages_key(call.messages), reply)
    return replies


def write_replies(path: str | Path) -> int:
    """Writes them as JSON Lines (key, reply) for Server.script("file:PATH"), and says how many."""
    rows = recorded_replies()
    lines = [json.dumps({"key": key, "reply": reply}) for key, reply in rows.items()]
    Path(path).write_text("\n".join(lines) + "\n", encoding="ascii")
    return len(rows)


def read_replies(path: str | Path) -> dict[str, str]:
    """What write_replies wrote."""
    lines = Path(path).read_text(encoding="ascii").splitlines()
    return {row["key"]: row["reply"] for row in map(json.loads, lines)}
