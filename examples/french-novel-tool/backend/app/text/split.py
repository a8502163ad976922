"""French paragraphs to sentences."""

import re

# Written with a point that does not end a sentence: titles, in lower case.
TITLES = frozenset(
    "m mm mr mrs mme mmes mlle mlles mgr dr drs pr prof st ste stes vve capt cdt gal lt sgt "
    "av bd boul cf env approx éd ex janv févr avr juil sept oct nov déc".split()
)
# These do so only before a number: « vol. 2 », but « Il prit son vol. Le ciel… ».
BEFORE_NUMBERS = frozenset("art ch chap fig liv n op p pp t v vol".split())

TERMINATOR = re.compile(r"(?:\.{2,}|…|[.!?])+")
CLOSERS = re.compile(r"(?:\s?[»”\"’)\]])*")
# What a sentence may start with: quotes, dashes, brackets, then a capital letter or a digit.
OPENING = re.compile(r"\s+(?:[«“\"(\[]\s?|[—–-]\s)*(?P<first>\w)", re.UNICODE)
LAST_WORD = re.compile(r"(?P<word>[^\W\d_]+)$")


def sentences(paragraphs: list[str]) -> list[str]:
    """The sentences of a text, in order."""
    return [sentence for paragraph in paragraphs for sentence in split(paragraph)]


def split(paragraph: str) -> list[str]:
    """The sentences of one paragraph; spaces are made single."""
    text = " ".join(paragraph.split())
    found: list[str] = []
    start = 0
    for match in TERMINATOR.finditer(text):
        end = CLOSERS.match(text, match.end()).end()
        if end > start and ends_sentence(text, match, end):
            found.append(text[start:end].strip())
            start = end
    if rest := text[start:].strip():
        found.append(rest)
    return [tidy(sentence) for sentence in found if has_letter(sentence)]


def ends_sentence(text: str, terminator: re.Match[str], end: int) -> bool:
    """Whether the terminator, whose closing quotes reach to `end`, ends a sentence."""
    if end == len(text):
        return True
    opening = OPENING.match(text, end)
    if not opening:
        return False
    first = opening["first"]
    # « Oui… dit-il. » and « Ah ! fit-elle » go on in lower case.
    if not (first.isupper() or first.isdigit()):
        return False
    return terminator.group() != "." or not is_abbreviation(text, terminator.start(), first)


def is_abbreviation(text: str, point: int, following: str) -> bool:
    """Whether the point at index `point` belongs to the word before it."""
    word = LAST_WORD.search(text, max(0, point - 12), point)
    if not word:
        return False
    letters = word["word"]
    # Initials: « J. Verne », « J.-C. ».
    if len(letters) == 1 and letters.isupper():
        return True
    if letters.lower() in BEFORE_NUMBERS:
        return following.isdigit()
    return letters.lower() in TITLES


def tidy(sentence: str) -> str:
    """Typography: one ellipsis, one dialogue dash, spaces inside guillemets."""
    sentence = re.sub(r"\.{3,}", "…", sentence)
    sentence = re.sub(r"^[–-]\s+", "— ", sentence)
    sentence = re.sub(r"«\s*", "« ", sentence)
    sentence = re.sub(r"\s*»", " »", sentence)
    return sentence.strip()


def has_letter(sentence: str) -> bool:
    """Ornaments such as « * * * » are no sentences."""
    return any(character.isalnum() for character in sentence)


def count_words(sentence: str) -> int:
    """Words parted by spaces; dashes and lone punctuation do not count."""
    return sum(1 for token in sentence.split() if any(c.isalnum() for c in token))
