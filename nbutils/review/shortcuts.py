"""Shortcuts for a box of widgets in a notebook. Never acts while somebody types in a field.

ipyevents, the other well-kept way, hears a key only while the mouse is over the box, and hears what
is typed in its fields too; so these are a few lines of JavaScript, served by the kernel itself.
"""

from typing import Any

import anywidget
import traitlets

ROOT_CLASS = "nbutils-keys"  # of the box that is listened to
ANSWER_S = 5  # after a press, the kernel should have answered within this time

SCRIPT = """
const TYPING = "textarea, select, [contenteditable=true], " +
  "input:not([type=checkbox]):not([type=radio]):not([type=range])";

function render({ model, el }) {
  let root = null, timer = 0, gone = false;
  el.innerHTML = "<span class='nbk-on'></span><span class='nbk-off'></span>" +
    "<span class='nbk-typing'></span><span class='nbk-lost' role='alert'></span>";
  const lost = el.querySelector(".nbk-lost");
  for (const name of ["on", "off", "typing"])
    el.querySelector(".nbk-" + name).textContent = model.get("states")[name];
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => { lost.textContent = model.get("states").lost; },
      1000 * model.get("seconds"));
  };
  const answered = () => { clearTimeout(timer); lost.textContent = ""; };

  const onKey = (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) {
      if (key === "Enter") event.stopPropagation(); // else the cell would run again
      return; // what is left is the browser's and JupyterLab's own: save, zoom, copy
    }
    event.stopPropagation(); // a, b, x, dd, 00 and Enter mean other things to a notebook
    if (target.matches(TYPING)) return;
    const name = key.length === 1 ? key.toLowerCase() : key;
    if (event.repeat || event.isComposing || !model.get("acting").includes(name)) return;
    if (name === "Enter" && target !== root && !target.matches("[tabindex]")) return; // a button's
    event.preventDefault();
    const page = root.querySelector("[data-turn]"); // what the person saw when the key was pressed
    model.send({ key: name, turn: Number(page?.dataset.turn) });
    wait();
  };
  const onField = ({ key, target }) => { // before the field, which keeps its keys to itself
    if (!target.matches(TYPING)) return;
    if (key === "Escape" || (key === "Enter" && target.matches("input"))) root.focus();
  };
  const onClick = (event) => {
    const button = event.target.closest("button");
    if (button) wait();
    else if (event.target.closest("input, select, [tabindex]") !== root) return;
    root.focus({ preventScroll: true }); // a button that is then switched off would lose the keys
  };
  const onTurn = () => {
    if (!root || !root.contains(document.activeElement)) return;
    root.firstElementChild.scrollIntoView({ block: "nearest" });
  };
  const attach = () => {
    root = el.closest("." + model.get("root"));
    if (gone) return;
    if (!root) { requestAnimationFrame(attach); return; }
    root.tabIndex = 0;
    root.addEventListener("keydown", onField, true);
    root.addEventListener("keydown", onKey);
    root.addEventListener("click", onClick);
  };
  model.on("msg:custom", answered);
  model.on("change:turn", onTurn);
  attach();
  return () => {
    gone = true;
    clearTimeout(timer);
    model.off("msg:custom", answered);
    model.off("change:turn", onTurn);
    root?.removeEventListener("keydown", onField, true);
    root?.removeEventListener("keydown", onKey);
    root?.removeEventListener("click", onClick);
  };
}
export default { render };
"""

STYLE = f"""
.{ROOT_CLASS} .nbk-on, .{ROOT_CLASS} .nbk-typing {{ display: none; }}
.{ROOT_CLASS}:focus-within .nbk-on {{ display: inline; }}
.{ROOT_CLASS}:focus-within .nbk-off {{ display: none; }}
.{ROOT_CLASS}:has(input:not([type=checkbox]):focus, select:focus) .nbk-typing {{ display: inline; }}
.{ROOT_CLASS}:has(input:not([type=checkbox]):focus, select:focus) .nbk-on {{ display: none; }}
.{ROOT_CLASS}:focus {{ outline: none; }}
.nbk-on, .nbk-off, .nbk-typing {{ white-space: nowrap; float: right; }}
.nbk-lost {{ color: var(--jp-error-color1, #b71c1c); font-weight: 600; }}
"""


class Shortcuts(anywidget.AnyWidget):
    """Listens to the keys of the box around it, and says whether they act.

    The box has the class ROOT_CLASS; a click or the Tab key gives it the keys. A press arrives as
    the message {"key", "turn"}; whoever takes it, or a click on a button of the box, calls
    `answer`, else the reader is told that nothing was saved. The turn is that of the page on which
    the key was pressed: `paged` writes it into the page.
    """

    _esm = SCRIPT
    _css = STYLE
    acting = traitlets.List(traitlets.Unicode()).tag(sync=True)  # keys that are sent, no others
    turn = traitlets.Int(0).tag(sync=True)  # one more with each page
    root = traitlets.Unicode(ROOT_CLASS).tag(sync=True)
    seconds = traitlets.Float(ANSWER_S).tag(sync=True)
    states = traitlets.Dict(
        {
            "on": "Keys are on",
            "off": "Click in here to use the keys",
            "typing": "Typing: Esc brings the keys back",
            "lost": "No answer from the kernel: what you press now is not saved. "
            "Reload the page and run the notebook again.",
        }
    ).tag(sync=True)

    def paged(self, html: str) -> str:
        """The HTML of the next page. Once it is sent, keys pressed on earlier pages do nothing."""
        self.turn += 1
        return f'<div data-turn="{self.turn}">{html}</div>'

    def answer(self) -> None:
        """Tells the page that its press or click arrived and was dealt with."""
        self.send("answer")

    def pressed(self, message: Any) -> str:
        """The key of a message; "" where it was pressed on an earlier page."""
        return str(message["key"]) if message["turn"] == self.turn else ""
