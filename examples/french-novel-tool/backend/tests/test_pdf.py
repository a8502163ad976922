"""From a printed page back to paragraphs."""

import pytest

import make_pdf
from app.text import pdf
from app.text.pdf import Line, PdfError


def test_the_sample_comes_back_as_it_was_written(sample_pdf):
    book = pdf.read(sample_pdf)
    assert book.pages == 4
    assert book.paragraphs == make_pdf.paragraphs(make_pdf.SAMPLE.read_text(encoding="utf-8"))


def lines(*texts, x=50.0):
    return [Line(text, x, 500.0 - 12 * row) for row, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["un événe-", "ment bizarre"], "un événement bizarre"),
        (["lui répondit-", "il doucement"], "lui répondit-il doucement"),
        (["comment va-", "t-elle ce soir"], "comment va-t-elle ce soir"),
        (["ce Saville-", "Row anglais"], "ce Saville-Row anglais"),
        (["quatre-vingt-", "dix francs"], "quatre-vingt-dix francs"),
        (["un mot entier", "puis un autre"], "un mot entier puis un autre"),
    ],
)
def test_words_cut_at_the_end_of_a_line(texts, expected):
    assert pdf.paragraphs([lines(*texts)]) == [expected]


def test_dialogue_starts_a_paragraph():
    page = lines("Il entra dans le salon et dit :", "— Bonjour, monsieur Fogg.", "— Bonjour.")
    assert len(pdf.paragraphs([page])) == 3


def test_an_indented_line_starts_a_paragraph():
    page = lines("Il entra dans le salon de lecture.", "Personne ne le vit ce jour-là entrer.")
    page[1] = Line(page[1].text, 62.0, page[1].y)
    page.extend(Line("Il lut le journal du matin jusqu'au", 50.0, y) for y in (476.0, 464.0))
    assert len(pdf.paragraphs([page])) == 2


def test_a_paragraph_goes_on_over_a_page():
    pages = [lines("Il entra dans le grand"), lines("salon et salua tout le monde.")]
    assert pdf.paragraphs(pages) == ["Il entra dans le grand salon et salua tout le monde."]


def test_headers_and_page_numbers_are_dropped():
    pages = [lines("LE TOUR DU MONDE", f"Texte de la page {n}.", str(n)) for n in range(1, 6)]
    texts = [line.text for page in pdf.without_furniture(pages) for line in page]
    assert texts == [f"Texte de la page {n}." for n in range(1, 6)]


def test_ligatures_and_soft_hyphens():
    assert pdf.clean("la \ufb01n of\ufb01\u00adcielle ") == "la fin officielle"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"%PDF-1.4\nnothing that a PDF needs", "not a readable PDF"),
        (b"", "not a readable PDF"),
        (make_pdf.pdf("   ", header=""), "holds no text"),
    ],
)
def test_what_cannot_be_read_is_said(data, message):
    with pytest.raises(PdfError, match=message):
        pdf.read(data)


def test_any_damage_is_a_clear_error_or_text(sample_pdf):
    for at in range(0, len(sample_pdf), 97):
        damaged = sample_pdf[:at] + b"\x00\xff>>" + sample_pdf[at + 4 :]
        try:
            assert pdf.read(damaged).paragraphs
        except PdfError:
            continue
