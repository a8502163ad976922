"""Where French sentences end."""

import pytest

from app.text.split import count_words, sentences, split


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Il vint. Il vit.", ["Il vint.", "Il vit."]),
        # Titles and initials keep their point.
        ("M. Fogg salua Mme. Aouda.", ["M. Fogg salua Mme. Aouda."]),
        ("MM. Stuart et Flanagan jouaient.", ["MM. Stuart et Flanagan jouaient."]),
        ("J. Verne et J.-C. Martin écrivent.", ["J. Verne et J.-C. Martin écrivent."]),
        ("Voyez vol. 2 et chap. 3 du livre.", ["Voyez vol. 2 et chap. 3 du livre."]),
        (
            "L'oiseau prit son vol. Le soir vint.",
            ["L'oiseau prit son vol.", "Le soir vint."],
        ),
        (
            "Des pommes, des poires, etc. Puis il partit.",
            ["Des pommes, des poires, etc.", "Puis il partit."],
        ),
        ("Il paya 3.50 francs. Cher !", ["Il paya 3.50 francs.", "Cher !"]),
        # An ellipsis ends a sentence only before a capital letter.
        ("Il hésita… puis partit.", ["Il hésita… puis partit."]),
        ("Il hésita... Elle partit.", ["Il hésita…", "Elle partit."]),
        # Exclamations within a sentence.
        ("« Viens ! » dit-il. Elle vint.", ["« Viens ! » dit-il.", "Elle vint."]),
        ("Quoi ? demanda-t-elle. Rien.", ["Quoi ? demanda-t-elle.", "Rien."]),
        ("Vraiment ?! Oui !", ["Vraiment ?!", "Oui !"]),
        # Closing quotes stay with what they close, opening ones with what follows.
        ("Il dit : « Je viens. » Il vint.", ["Il dit : « Je viens. »", "Il vint."]),
        ("Il partit. « Enfin ! »", ["Il partit.", "« Enfin ! »"]),
        ("Il partit.« Enfin ! »", ["Il partit.« Enfin ! »"]),
        # Dialogue.
        ("— Oui, dit-il. — Non.", ["— Oui, dit-il.", "— Non."]),
        ("- Oui, dit-il.", ["— Oui, dit-il."]),
        ("«Bonjour», dit-il.", ["« Bonjour », dit-il."]),
        # No terminator, ornaments, odd spaces.
        ("CHAPITRE I", ["CHAPITRE I"]),
        ("* * *", []),
        ("Il\u00a0vint\u202f! Elle  partit.", ["Il vint !", "Elle partit."]),
    ],
)
def test_split(text, expected):
    assert split(text) == expected


def test_no_text_is_lost():
    text = "M. Fogg vint… « Ah ! dit-il. Qui êtes-vous ? » — Passepartout. Bien (très bien)."
    assert " ".join(split(text)) == text


def test_paragraphs_keep_their_order():
    assert sentences(["Un. Deux.", "Trois."]) == ["Un.", "Deux.", "Trois."]


def test_words_are_counted_without_dashes_and_signs():
    assert count_words("— L'homme vint-il ? « Oui », dit-elle !") == 4
