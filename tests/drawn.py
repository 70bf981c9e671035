"""What a drawn figure says, for the tests of plots and pictures."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def title(figure: Figure) -> str:
    assert figure.get_suptitle()
    return figure.get_suptitle().replace("\n", " ")


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def rows(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def widths(ax: Axes) -> list[float]:
    return [bar.get_width() for bar in ax.patches]
