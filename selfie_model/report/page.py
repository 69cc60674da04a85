"""A self-contained HTML page: headings, figures, tables; no script, no request to anywhere, light and dark.

Text given to these functions is escaped; what is markup already is passed as `Markup`.
"""

from collections.abc import Sequence
from html import escape
from typing import NewType

from selfie_model.report.svg import STYLE

Markup = NewType("Markup", str)

_CSS = (
    STYLE
    + """
:root{--panel:#f4f6f9}
@media (prefers-color-scheme:dark){:root{--panel:#1b212a}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:76rem;margin:0 auto;padding:2.5rem 1.5rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .3rem;letter-spacing:-.015em;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:3rem 0 .4rem;letter-spacing:-.01em}
p{max-width:46rem;margin:.4rem 0 1rem}
.soft,figcaption,footer{color:var(--soft)}
figure{margin:0}
figcaption{font-size:.88rem;max-width:40rem;margin-top:.3rem}
svg,img{max-width:100%;height:auto}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(12rem,1fr));gap:.8rem;margin:1.6rem 0 0;padding:0}
.facts div{background:var(--panel);border-radius:.6rem;padding:.75rem 1rem}
.facts dt{color:var(--soft);font-size:.85rem}
.facts dd{margin:.1rem 0 0;font-size:1.35rem;font-variant-numeric:tabular-nums;line-height:1.25}
.facts small{display:block;color:var(--soft);font-size:.8rem}
.side{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,31rem),1fr));gap:1.6rem 2rem}
.puzzles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,33rem),1fr));
gap:1.2rem 2rem;margin-top:1rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.6rem 0 1rem}
th,td{text-align:left;padding:.35rem 1.4rem .35rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
th{font-weight:600;color:var(--soft);font-size:.85rem}
td.number,th.number{text-align:right}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,monospace;overflow-wrap:anywhere}
summary{cursor:pointer;font-weight:600}
footer{margin-top:3.5rem;padding-top:1rem;border-top:1px solid var(--rule);font-size:.88rem}
@media print{details{display:block}}
"""
)


def page(title: str, body: Sequence[Markup]) -> str:
    """Returns the whole document."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        # Nothing may be fetched, whatever stands in the page: only what it carries itself.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def heading(title: str, lead: str) -> Markup:
    """The page's own title and one line below it."""
    return Markup(f'<header><h1>{escape(title)}</h1><p class="soft">{escape(lead)}</p></header>')


def section(title: str, *parts: Markup) -> Markup:
    """A section with a heading."""
    return Markup(f"<section><h2>{escape(title)}</h2>\n" + "\n".join(parts) + "</section>")


def paragraph(text: str) -> Markup:
    """A paragraph of plain text."""
    return Markup(f"<p>{escape(text)}</p>")


def bullets(texts: Sequence[str]) -> Markup:
    """A list of plain sentences."""
    return Markup("<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>")


def facts(entries: Sequence[tuple[str, str, str]]) -> Markup:
    """Key figures: name, value, and a word to judge it by (or nothing)."""
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in entries
    )
    return Markup(f'<dl class="facts">{cells}</dl>')


def figure(drawing: str, caption: str) -> Markup:
    """A drawing (SVG element) with its caption."""
    return Markup(f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>")


def grid(kind: str, parts: Sequence[str]) -> Markup:
    """Things side by side where there is room: `side` charts, `puzzles`."""
    return Markup(f'<div class="{kind}">' + "".join(parts) + "</div>")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> Markup:
    """A table; columns in `numbers` are aligned to the right."""

    def cells(values: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=number' if index in numbers else ''}{' scope=col' if tag == 'th' else ''}>"
            f"{escape(value)}</{tag}>"
            for index, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return Markup(
        f'<div class="scroll"><table><thead><tr>{cells(header, "th")}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def details(summary: str, *parts: Markup) -> Markup:
    """Something long that opens on demand."""
    return Markup(f"<details><summary>{escape(summary)}</summary>" + "".join(parts) + "</details>")


def footer(text: str) -> Markup:
    """The last line of the page."""
    return Markup(f"<footer>{escape(text)}</footer>")
