#!/usr/bin/env python3
"""Writes a French text as a small PDF: the book that tests and the demo upload.

    python3 make_pdf.py OUT.pdf                 the sample (Jules Verne, 1872, public domain)
    python3 make_pdf.py OUT.pdf --text FILE     another text; a blank line ends a paragraph

Only the standard library. The pages look like those of a printed book on purpose: a
running header, page numbers and words cut at the end of a line, which is what a reader of
PDF novels has to undo.
"""

import argparse
import re
import textwrap
import zlib
from pathlib import Path

SAMPLE = Path(__file__).resolve().parent / "sample" / "le-tour-du-monde.txt"

# A5 in points, and a fixed-width face so that wrapping needs no table of glyph widths.
PAGE_WIDTH, PAGE_HEIGHT = 420, 595
MARGIN = 48
FONT_SIZE = 9
LEADING = 13
COLUMNS = int((PAGE_WIDTH - 2 * MARGIN) / (FONT_SIZE * 0.6))
LINES_PER_PAGE = int((PAGE_HEIGHT - 3 * MARGIN) / LEADING)

# Words of at least this many letters may be cut where a line ends.
LONG_WORD = 9


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a plain text, each on one line."""
    return [" ".join(block.split()) for block in re.split(r"\n\s*\n", text) if block.strip()]


def wrap(paragraph: str, columns: int = COLUMNS) -> list[str]:
    """Lines of at most `columns` characters; long words are cut with a hyphen."""
    wrapper = textwrap.TextWrapper(columns, break_long_words=False, break_on_hyphens=False)
    lines: list[str] = []
    rest = paragraph
    while rest:
        line = wrapper.wrap(rest)[0]
        rest = rest[len(line) :].lstrip()
        room = columns - len(line) - 2
        word = re.match(r"[^\W\d_]+", rest)
        if word and len(word.group()) >= LONG_WORD and room >= 4:
            cut = min(room, len(word.group()) - 4)
            line, rest = f"{line} {rest[:cut]}-", rest[cut:]
        lines.append(line)
    return lines


def pages(text: str) -> list[list[str]]:
    """Lines of each page; paragraphs are parted by an empty line."""
    lines: list[str] = []
    for paragraph in paragraphs(text):
        lines.extend([*wrap(paragraph), ""])
    return [lines[i : i + LINES_PER_PAGE] for i in range(0, len(lines), LINES_PER_PAGE)]


def escape(line: str) -> bytes:
    """A PDF string in the WinAnsi encoding, which has every letter French needs."""
    raw = line.encode("cp1252", errors="replace")
    return b"(" + re.sub(rb"([\\()])", rb"\\\1", raw) + b")"


def content(lines: list[str], number: int, header: str) -> bytes:
    """The drawing operators of one page."""

    def at(x: float, y: float, line: str) -> bytes:
        return b"1 0 0 1 %.1f %.1f Tm %s Tj\n" % (x, y, escape(line))

    top = PAGE_HEIGHT - MARGIN
    out = [b"BT /F1 %d Tf\n" % FONT_SIZE, at(MARGIN, top, header)]
    for row, line in enumerate(lines):
        if line:
            out.append(at(MARGIN, top - 2 * LEADING - row * LEADING, line))
    out.append(at(PAGE_WIDTH / 2, MARGIN / 2, str(number)))
    return b"".join([*out, b"ET\n"])


def pdf(text: str, header: str = "LE TOUR DU MONDE EN QUATRE-VINGTS JOURS") -> bytes:
    """A whole PDF 1.4 file."""
    streams = [content(lines, n, header) for n, lines in enumerate(pages(text), 1)]
    first_page = 4  # 1 catalogue, 2 page tree, 3 font; then a page and its content in turn
    kids = b" ".join(b"%d 0 R" % (first_page + 2 * n) for n in range(len(streams)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d /MediaBox [0 0 %d %d] >>"
        % (kids, len(streams), PAGE_WIDTH, PAGE_HEIGHT),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>",
    ]
    for n, stream in enumerate(streams):
        packed = zlib.compress(stream)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /Resources << /Font << /F1 3 0 R >> >>"
            b" /Contents %d 0 R >>" % (first_page + 2 * n + 1)
        )
        objects.append(
            b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed)
        )
    return assemble(objects)


def assemble(objects: list[bytes]) -> bytes:
    """Numbers the objects, and adds the table of where each one starts."""
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for offset in offsets:
        out += b"%010d 00000 n \n" % offset
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        table,
    )
    return bytes(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", type=Path, default=SAMPLE)
    arguments = parser.parse_args()
    arguments.out.write_bytes(pdf(arguments.text.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
