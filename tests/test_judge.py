import json
from dataclasses import replace

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils import judge
from nbutils.judge import RowError, judge_file, judge_pairs, judge_row, main
from nbutils.records import Answer, Pair, Question
from nbutils.scoring.backbone import Group
from nbutils.scoring.student import Calibration
from tests.tiny import TOYS, group, random_student

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """A random student, saved."""
    student = random_student(tiny)
    student.calibration = Calibration(1.0, -1.0, 2.0, 0.5)
    folder = tmp_path_factory.mktemp("student")
    student.save(folder)
    return folder


@pytest.fixture(scope="module")
def student(folder, tiny):
    return judge.load(folder, tiny)


@pytest.fixture
def counted(student, monkeypatch):
    """The groups that the student scores."""
    seen = []
    scores = student.scores

    def counting(asked):
        seen.append(asked)
        return scores(asked)

    monkeypatch.setattr(student, "scores", counting)
    return seen


# Pairs of the series.

QUESTIONS = [
    Question(f"q{n}", "test", "s", "fact", TOYS[n], "", "c", "c", "lamp . mast") for n in range(2)
]
ANSWERS = [
    Answer("q0", "x", "gull"),
    Answer("q0", "y", "tern skua"),
    Answer("q0", "z", "gull"),
    Answer("q1", "x", "ice"),
    Answer("q1", "y", "map rock"),
]
PAIRS = [
    Pair("p1", "test", "q0", "x", "y"),
    Pair("p2", "test", "q1", "y", "x"),
    Pair("p3", "test", "q0", "y", "z"),
    Pair("p4", "test", "q0", "z", "x"),
]


def test_pairs_get_a_verdict_its_probabilities_and_the_margin(student, counted):
    found = {row.pair_id: row for row in judge_pairs(student, PAIRS, QUESTIONS, ANSWERS, "probe")}
    assert found.keys() == {"p1", "p2", "p3", "p4"} and len(counted) == 2  # one pass a question
    texts = {(row.question_id, row.answerer): row.text for row in ANSWERS}
    asked = {row.question_id: row for row in QUESTIONS}
    for pair in PAIRS:
        row, question = found[pair.pair_id], asked[pair.question_id]
        shown = [texts[pair.question_id, end] for end in (pair.answerer_a, pair.answerer_b)]
        a, b = student.scores(Group(question.question, question.source, tuple(shown)))
        label, shares = student.verdict(a, b)
        assert (row.verdict, row.judge, row.leaning) == (label, "probe", False)
        assert row.margin == pytest.approx(a - b, abs=1e-5)
        assert row.target == pytest.approx(shares, abs=1e-5)
    assert (found["p4"].verdict, found["p4"].margin) == ("tie", 0)  # the same text


@settings(max_examples=10)
@given(chosen=st.permutations(PAIRS), swap=st.lists(st.booleans(), min_size=4, max_size=4))
def test_neither_the_order_of_pairs_nor_of_answers_sways_it(student, chosen, swap):
    plain = {row.pair_id: row for row in judge_pairs(student, PAIRS, QUESTIONS, ANSWERS, "s")}
    turned = [
        replace(pair, answerer_a=pair.answerer_b, answerer_b=pair.answerer_a) if turn else pair
        for pair, turn in zip(chosen, swap, strict=True)
    ]
    flipped = {pair.pair_id for pair, turn in zip(chosen, swap, strict=True) if turn}
    for row in judge_pairs(student, turned, QUESTIONS, ANSWERS, "s"):
        twin, sign = plain[row.pair_id], -1 if row.pair_id in flipped else 1
        assert row.margin == sign * twin.margin  # exactly
        names = (
            {"a": "b", "b": "a", "tie": "tie"} if sign < 0 else {x: x for x in ("a", "b", "tie")}
        )
        assert row.verdict == names[twin.verdict]


# One row of a user's own.

ROW = {"question": "boat", "source": "lamp . mast", "answers": ["gull", "tern skua", "ice"]}


def test_answers_are_compared_two_by_two(student):
    found = judge_row(student, ROW)
    scores = student.scores(group("gull", "tern skua", "ice", source="lamp . mast"))
    assert found["scores"] == [round(score, 4) for score in scores]
    assert [(v["a"], v["b"]) for v in found["verdicts"]] == [(0, 1), (0, 2), (1, 2)]
    for told in found["verdicts"]:
        label, shares = student.verdict(scores[told["a"]], scores[told["b"]])
        assert told["verdict"] == label
        assert list(told["probabilities"].values()) == [round(share, 4) for share in shares]
        assert sum(told["probabilities"].values()) == pytest.approx(1, abs=2e-4)


def test_one_answer_is_graded(student):
    found = judge_row(student, {"question": "boat", "source": "lamp", "answer": "gull"})
    (score,) = student.scores(group("gull", source="lamp"))
    assert found == {"grade": round(student.grade(score), 4)}
    assert 0 < found["grade"] < 1


def test_the_same_answer_twice_is_a_tie(student):
    (told,) = judge_row(student, ROW | {"answers": ["gull", "gull"]})["verdicts"]
    assert told["verdict"] == "tie"


def test_an_empty_answer_is_an_answer(student):
    assert len(judge_row(student, ROW | {"answers": ["gull", ""]})["verdicts"]) == 1


BAD = [
    ({"question": None}, "field 'question': None is not a text"),
    ({"question": "  "}, "field 'question': '  ' is not a text"),
    ({"source": 3}, "field 'source': 3 is not a text"),
    ({"answers": ["gull"]}, "field 'answers' has 1; give two or more, or use 'answer'"),
    ({"answers": "gull"}, "field 'answers': 'gull' is not a list of texts"),
    ({"answers": ["gull", 1]}, "is not a list of texts"),
    ({"answers": None}, "field 'answers': None is not a list of texts"),
    ({"answer": "gull"}, "give either 'answer' (to be graded) or 'answers' (to be compared)"),
    ({"label": "a"}, "field 'label' is unknown; known are answer, answers, id, question, source"),
    (
        {"answers": ["gull", "\ud800"]},
        "field 'answers': ['gull', '\\ud800'] is not a list of texts",
    ),
    ({"question": "\udfff"}, "field 'question': '\\udfff' is not a text"),
    ({"source": "lamp " * 1100}, "reads 1024: shorten the source"),
]


@pytest.mark.parametrize(("fields", "says"), BAD)
def test_a_bad_row_says_what_is_wrong(student, fields, says):
    with pytest.raises(RowError) as error:
        judge_row(student, ROW | fields)
    assert says in str(error.value)


def test_a_bad_answer_is_named_by_its_own_field(student):
    with pytest.raises(RowError, match="field 'answer': 3 is not a text"):
        judge_row(student, {"question": "boat", "source": "lamp", "answer": 3})
    with pytest.raises(RowError, match="give either 'answer'"):
        judge_row(student, {"question": "boat", "source": "lamp"})


# A file of rows.


def lines(*rows):
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def numbered(count):
    return [ROW | {"id": f"r{n}", "question": TOYS[n]} for n in range(count)]


@pytest.fixture
def files(tmp_path):
    return tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "out.bad.jsonl"


def results(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_each_row_gets_a_result(student, files):
    source, out, bad = files
    graded = {"id": 7, "question": "boat", "source": "lamp", "answer": "gull"}
    source.write_text(lines(*numbered(2), graded, {k: v for k, v in ROW.items() if k != "id"}))
    assert judge_file(student, source, out) == (4, 0, 0)
    found = results(out)
    assert [row["line"] for row in found] == [1, 2, 3, 4]
    assert [row.get("id") for row in found] == ["r0", "r1", 7, None]
    assert found[1]["verdicts"] == judge_row(student, numbered(2)[1])["verdicts"]
    assert found[2]["grade"] == judge_row(student, graded)["grade"]
    assert not bad.exists()


def test_bad_rows_are_reported_by_line_and_kept_out_of_the_way(student, files):
    source, out, bad = files
    first, last = numbered(2)
    deep = "[" * 100_000
    broken = ["{not json", ROW | {"label": 1}, "[1]", first | {"answers": ["gull", "\ud800"]}, deep]
    text = lines(first, *broken[:2], "", *broken[2:], last)
    source.write_bytes(text.encode() + b'{"question": "\xff"}\n')
    assert judge_file(student, source, out) == (2, 0, 6)
    assert [row["line"] for row in results(out)] == [1, 8]
    assert [row["line"] for row in results(bad)] == [2, 3, 5, 6, 7, 9]  # line 4 is blank
    said = [row["error"] for row in results(bad)]
    assert said[0].startswith("not JSON") and "'label'" in said[1] and "not an object" in said[2]
    assert said[4].startswith("not JSON") and said[5].startswith("not JSON")
    # Mended, they are judged, and only they.
    source.write_text(lines(first, numbered(3)[2], "", last))
    out.unlink()
    assert judge_file(student, source, out) == (3, 0, 0)
    assert not bad.exists()


def test_an_id_that_utf_8_cannot_hold_stops_nothing(student, files):
    source, out, _ = files
    source.write_text(lines(ROW | {"id": "\ud800"}, ROW))
    assert judge_file(student, source, out) == (2, 0, 0)
    assert [row.get("id") for row in results(out)] == ["\ud800", None]


def test_it_goes_on_where_it_stopped(student, files, counted):
    source, out, _ = files
    source.write_text(lines(*numbered(5)))
    judge_file(student, source, out)
    whole = out.read_bytes()
    # Two rows were done, and the third was torn when the power went.
    done = whole.splitlines(keepends=True)
    out.write_bytes(b"".join(done[:2]) + done[2][:17])
    counted.clear()
    assert judge_file(student, source, out) == (3, 2, 0)
    assert [asked.question for asked in counted] == TOYS[2:5]
    assert out.read_bytes() == whole
    counted.clear()
    assert judge_file(student, source, out) == (0, 5, 0)
    assert not counted and out.read_bytes() == whole


def test_a_torn_first_line_is_judged_again(student, files):
    source, out, _ = files
    source.write_text(lines(*numbered(1)))
    judge_file(student, source, out)
    whole = out.read_bytes()
    out.write_bytes(whole[:-1])  # all but its end
    assert judge_file(student, source, out) == (1, 0, 0)
    assert out.read_bytes() == whole


def test_each_result_is_on_disk_before_the_next_row_is_begun(student, files, monkeypatch):
    source, out, _ = files
    source.write_text(lines(*numbered(3)))
    judged = judge.judge_row

    def stops(student, row):
        assert len(results(out)) == int(row["id"][1:])
        if row["id"] == "r2":
            raise KeyboardInterrupt
        return judged(student, row)

    monkeypatch.setattr(judge, "judge_row", stops)
    with pytest.raises(KeyboardInterrupt):
        judge_file(student, source, out)
    assert len(results(out)) == 2


def test_rows_added_later_are_judged(student, files):
    source, out, _ = files
    source.write_text(lines(*numbered(2)))
    judge_file(student, source, out)
    source.write_text(lines(*numbered(4)))
    assert judge_file(student, source, out) == (2, 2, 0)


def test_a_changed_row_is_refused(student, files):
    source, out, _ = files
    source.write_text(lines(*numbered(3)))
    judge_file(student, source, out)
    before = out.read_bytes()
    rows = numbered(3)
    source.write_text(lines(rows[0], rows[1] | {"source": "other"}, rows[2]))
    with pytest.raises(RowError, match="in.jsonl line 2 is not the row that .*out.jsonl has"):
        judge_file(student, source, out)
    assert out.read_bytes() == before


def test_results_of_another_student_are_refused(student, files, tiny, tmp_path):
    source, out, _ = files
    source.write_text(lines(*numbered(2)))
    judge_file(student, source, out)
    other = random_student(tiny, seed=1)
    other.save(tmp_path / "other")
    with pytest.raises(RowError, match=r"out.jsonl line 1 is by student \w{16}, not \w{16}"):
        judge_file(other, source, out)


@pytest.mark.parametrize("content", ["other\n", '{"line": 1}\n', "[]\n", '{"line": "x"}\n'])
def test_a_file_of_something_else_is_not_written_to(student, files, content):
    source, out, _ = files
    source.write_text(lines(*numbered(2)))
    out.write_text(content)
    with pytest.raises(RowError, match="out.jsonl line 1 is no result of ours; name a new file"):
        judge_file(student, source, out)
    assert out.read_text() == content


def test_the_source_is_never_written_to(student, files):
    source, _, _ = files
    source.write_text(lines(*numbered(2)))
    with pytest.raises(RowError, match="in.jsonl line 1 is no result of ours"):
        judge_file(student, source, source)
    assert source.read_text() == lines(*numbered(2))


# The command.


@pytest.fixture
def command(folder, tiny, files, monkeypatch):
    monkeypatch.setattr(judge, "Base", lambda: tiny)
    source, out, _ = files
    return lambda student=folder: main(["--student", str(student), str(source), str(out)])


def test_the_command_judges_a_file(command, files, capsys):
    files[0].write_text(lines(*numbered(2)))
    assert command() == 0
    assert capsys.readouterr().out == f"2 rows judged, 0 already there, 0 bad: {files[1]}\n"
    files[0].write_text(lines(*numbered(3), "{"))
    assert command() == 1
    assert capsys.readouterr().out == f"1 rows judged, 2 already there, 1 bad: {files[1]}\n"


def test_the_command_says_why_it_cannot(command, files, folder, tmp_path, capsys):
    assert command() == 2
    assert "in.jsonl: no such file" in capsys.readouterr().err
    files[0].write_text(lines(*numbered(2)))
    assert command(tmp_path / "none") == 2
    assert "run notebook 05_distil first" in capsys.readouterr().err
    files[1].write_text("other\n")
    assert command() == 2
    assert "is no result of ours" in capsys.readouterr().err


def test_a_second_writer_is_refused(command, files, capsys):
    files[0].write_text(lines(*numbered(2)))
    with FileLock(f"{files[1]}.lock"):
        assert command() == 2
    assert capsys.readouterr().err == "nbutils.judge: another run is writing it\n"
    assert not files[1].exists()
    assert command() == 0
