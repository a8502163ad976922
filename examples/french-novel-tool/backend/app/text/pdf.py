"""The text of a PDF novel as paragraphs: headers, page numbers and cut words undone."""

import io
import re
import statistics
import unicodedata
from collections import Counter
from dataclasses import dataclass

from pypdf import PageObject, PdfReader
from pypdf.errors import PyPdfError

MAX_PAGES = 3000
MAX_CHARACTERS = 8_000_000

# A line that starts an utterance starts a paragraph.
DIALOGUE = re.compile(r"^[—–-]\s")
ENDS_SENTENCE = re.compile(r"[.!?…:][\s»”\")]*$")
PAGE_NUMBER = re.compile(r"^[\s\-–—.]*(?:page\s+)?(?:\d{1,4}|[ivxlc]{1,7})[\s\-–—.]*$", re.I)
CUT_WORD = re.compile(r"[^\W\d_]-$")
# "dit-" + "il", "celui-" + "ci": the hyphen belongs to the word.
KEEPS_HYPHEN = re.compile(
    r"^(?:t-)?(?:il|elle|on|ils|elles|je|tu|nous|vous|ce|moi|toi|lui|leur|le|la|les|en|y|ci|là|même)"
    r"(?:s?\b|s$)",
    re.I,
)
COMPOUND_HEADS = frozenset(
    "vingt trente quarante cinquante soixante quatre-vingt quatre peut c'est-à au ci là grand demi "
    "après avant avant-hier rez vis-à tête-à celui celle ceux dix mi non quelques sous contre".split()
)
LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
)


class PdfError(Exception):
    """The file cannot be turned into text; the message is meant for the person who sent it."""


@dataclass(frozen=True)
class Line:
    """A printed line; `x` and `y` are where it starts, in points from the lower left corner."""

    text: str
    x: float
    y: float


@dataclass(frozen=True)
class Book:
    """What was read."""

    pages: int
    paragraphs: list[str]


def read(data: bytes) -> Book:
    """Reads a PDF; raises PdfError."""
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise PdfError("The PDF is protected by a password.")
        count = len(reader.pages)
        if count > MAX_PAGES:
            raise PdfError(f"The PDF has {count} pages; at most {MAX_PAGES} are read.")
        pages: list[list[Line]] = []
        characters = 0
        for page in reader.pages:
            lines = page_lines(page)
            characters += sum(len(line.text) for line in lines)
            if characters > MAX_CHARACTERS:
                raise PdfError("The PDF holds more text than a novel.")
            pages.append(lines)
    except PdfError:
        raise
    # A broken file makes pypdf raise nearly anything.
    except (
        PyPdfError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
    ) as error:
        raise PdfError("The file is not a readable PDF.") from error
    except (
        RecursionError,
        ArithmeticError,
        NotImplementedError,
        AssertionError,
    ) as error:
        raise PdfError("The file is not a readable PDF.") from error
    text = paragraphs(without_furniture(pages))
    if not text:
        raise PdfError("The PDF holds no text; it may be a scan that needs OCR first.")
    return Book(pages=count, paragraphs=text)


def page_lines(page: PageObject) -> list[Line]:
    """The lines of a page in reading order, with where each one starts."""
    lines: list[Line] = []
    buffer: list[str] = []
    start: tuple[float, float] | None = None

    def flush() -> None:
        nonlocal start
        text = clean("".join(buffer))
        if text and start is not None:
            lines.append(Line(text, *start))
        buffer.clear()
        start = None

    def visit(text: str, cm: list[float], tm: list[float], _font: object, _size: float) -> None:
        nonlocal start
        for piece in re.split(r"(\n)", text):
            if piece == "\n":
                flush()
            elif piece:
                if start is None and piece.strip():
                    start = (
                        tm[4] * cm[0] + tm[5] * cm[2] + cm[4],
                        tm[4] * cm[1] + tm[5] * cm[3] + cm[5],
                    )
                buffer.append(piece)

    page.extract_text(visitor_text=visit)
    flush()
    return lines


def clean(text: str) -> str:
    """One form for every letter and space; characters without a shape are dropped."""
    text = unicodedata.normalize("NFC", text).translate(LIGATURES)
    text = re.sub(r"\u00ad(?=\s*$)", "-", text).replace("\u00ad", "")
    text = "".join(c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    return " ".join(text.split())


def without_furniture(pages: list[list[Line]]) -> list[list[Line]]:
    """Drops page numbers, and headers and footers: first or last lines that repeat."""
    edges = Counter(
        key for lines in pages for key in {furniture_key(line) for line in lines[:1] + lines[-1:]}
    )
    often = max(3, len(pages) // 4)
    repeated = {key for key, times in edges.items() if times >= often}

    def strip(lines: list[Line]) -> list[Line]:
        for _ in range(2):
            for end in (0, -1):
                if lines and (
                    PAGE_NUMBER.match(lines[end].text) or furniture_key(lines[end]) in repeated
                ):
                    lines = lines[1:] if end == 0 else lines[:-1]
        return lines

    return [strip(lines) for lines in pages]


def furniture_key(line: Line) -> str:
    """A header with its page number is the same header on the next page."""
    return re.sub(r"\d+", "#", line.text.lower())


def paragraphs(pages: list[list[Line]]) -> list[str]:
    """Joins lines to paragraphs, across pages too."""
    result: list[str] = []
    previous: Line | None = None
    for lines in pages:
        starts = paragraph_starts(lines)
        for index, line in enumerate(lines):
            turns_page = index == 0 and previous is not None
            begins = (
                not result
                or DIALOGUE.match(line.text)
                or (continues_not(previous, line) if turns_page else index in starts)
            )
            if begins:
                result.append(line.text)
            else:
                result[-1] = join(result[-1], line.text)
            previous = line
    return result


def continues_not(previous: Line | None, line: Line) -> bool:
    """Across a page only the words tell: a finished sentence and then a capital letter."""
    return (
        previous is None
        or ENDS_SENTENCE.search(previous.text) is not None
        and not line.text[0].islower()
    )


def paragraph_starts(lines: list[Line]) -> set[int]:
    """Indices of lines that lie lower, or further to the right, than the next line would."""
    starts: set[int] = set()
    if len(lines) < 2:
        return starts
    gaps = [above.y - line.y for above, line in zip(lines, lines[1:])]
    leading = statistics.median([gap for gap in gaps if gap > 0] or [0])
    margin = statistics.mode(round(line.x) for line in lines)
    width = max(len(line.text) for line in lines)
    for index in range(1, len(lines)):
        line, above = lines[index], lines[index - 1]
        ended = ENDS_SENTENCE.search(above.text) is not None
        wide_gap = leading > 0 and gaps[index - 1] > 1.4 * leading
        indented = margin + 4 < line.x and above.x < line.x - 4
        short = ended and len(above.text) < 0.7 * width
        if wide_gap or (indented and ended) or short:
            starts.add(index)
    return starts


def join(text: str, line: str) -> str:
    """Appends a line; a word that was cut at the end of the line becomes whole again."""
    if not CUT_WORD.search(text) or not line[0].isalpha():
        return f"{text} {line}"
    head = re.split(r"[\s'’]", text[:-1])[-1].lower()
    if not line[0].islower() or KEEPS_HYPHEN.match(line) or head in COMPOUND_HEADS:
        return text + line
    return text[:-1] + line
