"""One self-contained page about a run: no scripts, nothing from the network; it prints, and fits a phone."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto; padding: 1rem;
       max-width: 62rem; }
h1 { font-size: 1.6rem; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 0.5rem; border-top: 1px solid #ddd; padding-top: 1rem; }
.verdict { border-left: 0.4rem solid #0072B2; background: #f2f7fb; padding: 0.7rem 1rem; margin: 1rem 0; }
.verdict.bad { border-color: #D55E00; background: #fdf3ec; }
p { overflow-wrap: anywhere; }
.verdict p { margin: 0.2rem 0; }
nav a { margin-right: 1rem; white-space: nowrap; }
figure { margin: 1.2rem 0; }
figure img { width: 100%; height: auto; max-width: 902px; }
figcaption { color: #555; font-size: 0.92rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.92rem; margin: 0.6rem 0; }
caption { text-align: left; color: #555; padding-bottom: 0.3rem; }
th, td { padding: 0.22rem 0.7rem; border-bottom: 1px solid #e5e5e5; text-align: right; }
th:first-child, td:first-child { text-align: left; }
table.text :is(th, td) { text-align: left; }
td { font-variant-numeric: tabular-nums; }
table.text td { overflow-wrap: anywhere; }
table:not(.text) :is(th, td) { white-space: nowrap; }
@media print { nav { display: none; } figure, table { break-inside: avoid; } body { max-width: none; } }
"""


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

    >>> Picture(b"GIF89a", caption="A gait", alt="A robot runs").image[:3]
    b'GIF'
    """

    image: bytes | Figure
    caption: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A heading with what belongs under it.

    >>> Section("Data", text=("What the model saw.",)).title
    'Data'
    """

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = field(default=())


def render(title: str, *, verdict: Sequence[str], good: bool, sections: Sequence[Section]) -> str:
    """Writes the page.

    All text is shown as it was written: names in the data cannot put anything else into the page.

    Args:
        title: What run this is.
        verdict: What a hurried reader has to know, a paragraph each.
        good: Whether that is good news.
        sections: In the order in which they are read.
    """
    links = "".join(f'<a href="#s{n}">{escape(s.title)}</a> ' for n, s in enumerate(sections))
    told = "".join(f"<p>{escape(line)}</p>" for line in verdict)
    body = "".join(_section(f"s{n}", section) for n, section in enumerate(sections))
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f'<div class="verdict{"" if good else " bad"}">{told}</div><nav>{links}</nav>{body}</body></html>\n'
    )


def _section(anchor: str, section: Section) -> str:
    text = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in section.text)
    tables = "".join(_table(table) for table in section.tables)
    pictures = "".join(_picture(picture) for picture in section.pictures)
    return f'<section id="{anchor}"><h2>{escape(section.title)}</h2>{text}{tables}{pictures}</section>'


def _table(table: Table) -> str:
    heading = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.heading)
    if not table.rows:
        return ""
    rows = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in table.rows)
    kind = ' class="text"' if len(table.heading) == 2 else ""
    head = f"<caption>{escape(table.caption)}</caption><thead><tr>{heading}</tr></thead>"
    return f'<div class="table"><table{kind}>{head}<tbody>{rows}</tbody></table></div>'


def _picture(picture: Picture) -> str:
    image = picture.image if isinstance(picture.image, bytes) else _png(picture.image)
    kind = "gif" if image.startswith(b"GIF") else "png"
    source = f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>"
    return f'<figure><img src="{source}" alt="{escape(picture.alt)}">{caption}</figure>'


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
