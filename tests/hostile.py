"""A run to be reviewed in which every text tries to act."""

from dataclasses import replace

from nbutils.jsonl import write_jsonl
from nbutils.profiles import DATA
from nbutils.records import Judgement, load_dataset
from nbutils.resolution import resolve_all
from nbutils.verdicts import in_pair_labels, read_verdict

PIXEL = "hostile-pixel.png"  # what an image would ask the server for
TEXT = (
    f"<script>window.canary = 1</script><img src='/{PIXEL}' onerror='window.canary = 2'>"
    "<!-- a comment --> **bold** [link](javascript:canary) &lt; $e=mc^2$ $$x$$ \\(y\\) \\[z\\] "
    "\\begin{equation}q\\end{equation} größer"
)
NAME = "<img src='/hostile-pixel.png' onerror='window.canary = 3'>"  # after an answerer's name
PAIRS = 240  # of the recorded ones, in their order
REASON = "The teacher's reason"  # in front of each of its replies
ANSWERERS = {  # recorded names, and names that stand nowhere else in a notebook
    "frontier-llm": f"zebra {NAME}",
    "frontier-llm-one-error": f"yak {NAME}",
    "gemma-3-270m": f"xerus {NAME}",
    "smollm2-135m-instruct": f"walrus {NAME}",
}


def write_run(folder):
    """Questions, answers, pairs, judgements and resolutions of the recorded data, made hostile."""
    data = load_dataset(DATA)
    pairs = [p for p in data.pairs if {p.answerer_a, p.answerer_b} <= set(ANSWERERS)][:PAIRS]
    asked = {pair.question_id for pair in pairs}
    kept = {pair.pair_id for pair in pairs}
    judgements = []
    for row in data.judgements:
        if row.pair_id in kept:
            read = read_verdict(row.reply, "stop")
            reply = f"{REASON} {TEXT} {row.reply}"
            verdict = in_pair_labels(read.letter, row.order)
            judgements.append(
                Judgement(row.pair_id, row.order, "recorded", "pairwise-v1:0", reply, verdict)
            )
    folder.mkdir(parents=True)
    rows = {
        "questions": [
            replace(q, question=f"{q.question} {TEXT}", source=f"{TEXT}\n{q.source}")
            for q in data.questions
            if q.question_id in asked
        ],
        "answers": [
            replace(a, answerer=ANSWERERS[a.answerer], text=f"{a.text} {TEXT}")
            for a in data.answers
            if a.question_id in asked and a.answerer in ANSWERERS
        ],
        "pairs": [
            replace(
                p,
                answerer_a=ANSWERERS[p.answerer_a],
                answerer_b=ANSWERERS[p.answerer_b],
            )
            for p in pairs
        ],
        "judgements": judgements,
        "resolutions": resolve_all(judgements),
    }
    for name, found in rows.items():
        write_jsonl(folder / f"{name}.jsonl", found)
