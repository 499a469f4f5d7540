"""A self-contained page: no scripts, nothing from the network; it prints, and fits a phone."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """Rows under a heading; the first column is text, so are the others if there is but one, else figures.

    >>> Table("Sizes", ("layer", "parameters"), (("head", "8,721"),)).rows[0][1]
    '8,721'
    """

    caption: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """An image with words for who sees it and for who does not.

    >>> Picture(b"GIF89a", caption="A gait", alt="A robot runs").source
    'data:image/gif;base64,R0lGODlh'
    """

    image: bytes | Figure
    caption: str
    alt: str

    @property
    def source(self) -> str:
        """The image as an address that holds it."""
        image = self.image if isinstance(self.image, bytes) else png(self.image)
        kind = "gif" if image.startswith(b"GIF") else "png"
        return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


@dataclass(frozen=True)
class Section:
    """A heading with what belongs under it; ``folded`` sections are shown on a click."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    folded: tuple["Section", ...] = ()


def render(title: str, *, verdict: Sequence[str], good: bool, sections: Sequence[Section]) -> str:
    """Return the page as HTML.

    All text is shown as it was written: names in the data cannot put anything else into the page.

    Args:
        title: What run this is.
        verdict: What a hurried reader has to know, a paragraph each.
        good: Whether that is good news.
        sections: In the order in which they are read.
    """
    loader = PackageLoader("foretrace.reports", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("page.html.jinja")
    return page.render(title=title, verdict=verdict, good=good, sections=sections) + "\n"


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file, drawn once; `Figure.savefig` may draw it twice."""
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)  # type: ignore[no-untyped-call]
    return file.getvalue()
