"""Long French sentences to shorter ones, by rules.

A sentence is cut only where both halves can stand alone: at a semicolon, a colon, a
coordinating conjunction before a new subject, a subordinate clause that has an equivalent
main clause (« tandis que » → « Pendant ce temps, »), or a closing relative clause whose
antecedent's gender is known. Without a parser that is guesswork, so every rule asks for a
finite verb on both sides and leaves the sentence alone when in doubt: a long correct
sentence is better than two broken ones.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from app.text.split import count_words

MIN_WORDS = 3


@dataclass(frozen=True)
class Rewrite:
    """What became of one sentence; `method` is `kept`, `rules` or `gemini`."""

    parts: list[str]
    method: str


class Rewriter(Protocol):
    """Turns sentences into shorter ones, one Rewrite per sentence, in order."""

    def rewrite(self, sentences: list[str], word_limit: int) -> list[Rewrite]: ...


class RulesRewriter:
    """The rules of this module."""

    def rewrite(self, sentences: list[str], word_limit: int) -> list[Rewrite]:
        return [by_rules(sentence, word_limit) for sentence in sentences]


def by_rules(sentence: str, word_limit: int) -> Rewrite:
    """Cuts until every part is within the limit or no rule applies."""
    parts = list(shorten(sentence, word_limit))
    return Rewrite(parts, "rules" if len(parts) > 1 else "kept")


def shorten(sentence: str, word_limit: int) -> Iterator[str]:
    if count_words(sentence) > word_limit and (cut := best_cut(sentence)):
        left, right = halves(sentence, cut)
        yield from shorten(left, word_limit)
        yield from shorten(right, word_limit)
    else:
        yield sentence


@dataclass(frozen=True)
class Cut:
    """Leave out `sentence[start:end]`, begin the second sentence with `opener`.

    A lower `rank` is the safer rule.
    """

    rank: int
    start: int
    end: int
    opener: str = ""


def best_cut(sentence: str) -> Cut | None:
    """The safest rule's cut that is nearest to the middle."""
    middle = len(sentence) / 2
    return min(
        cuts(sentence),
        key=lambda cut: (cut.rank, abs(cut.start - middle)),
        default=None,
    )


def halves(sentence: str, cut: Cut) -> tuple[str, str]:
    """Two sentences with capital letters and full stops."""
    left = sentence[: cut.start].rstrip(" ,;:—–")
    right = cut.opener + sentence[cut.end :].lstrip(" ,;:—–")
    # Both clauses of a question with a semicolon are questions; other cuts avoid questions.
    end = "" if left[-1] in ".!?…" else " ?" if sentence.rstrip(' »”"').endswith("?") else "."
    return left + end, right[0].upper() + right[1:]


def cuts(sentence: str) -> Iterator[Cut]:
    """Every cut some rule allows."""
    closed = protected(sentence)
    question = sentence.rstrip(' »”"').endswith("?")
    for rule in RULES:
        if question and rule.rank > 0:
            continue
        for match in rule.pattern.finditer(sentence):
            left, right = sentence[: match.start()], sentence[match.end() :]
            if any(a < match.start() < b for a, b in closed):
                continue
            if count_words(left) < MIN_WORDS or count_words(right) < MIN_WORDS:
                continue
            opener = rule.opener(match, left, right)
            alone = has_verb(left) if rule.rank == 0 else stands_alone(left)
            if opener is not None and alone:
                yield Cut(rule.rank, match.start(), match.end(), opener)


def protected(sentence: str) -> list[tuple[int, int]]:
    """Spans that are not cut: brackets, asides between dashes, quotes within a sentence."""
    spans = [m.span() for m in re.finditer(r"\([^)]*\)|“[^”]*”|(?<=\S) — [^—]+ —", sentence)]
    for m in re.finditer(r"«[^»]*»?", sentence):
        whole = m.start() <= 2 and len(sentence) - m.end() <= 2
        if not whole:
            spans.append(m.span())
    return spans


# --- rules -------------------------------------------------------------------------------


class Rule(Protocol):
    rank: int
    pattern: re.Pattern[str]

    def opener(self, match: re.Match[str], left: str, right: str) -> str | None:
        """How the second sentence begins; `None` where the rule does not apply."""


@dataclass(frozen=True)
class Mark:
    """A semicolon or colon: the second half begins as it is."""

    rank: int
    pattern: re.Pattern[str]

    def opener(self, match: re.Match[str], left: str, right: str) -> str | None:
        return "" if starts_clause(right) or (self.rank == 0 and has_verb(right)) else None


@dataclass(frozen=True)
class Conjunction:
    """« , mais il … » → « . Mais il … »; « car » → « En effet, »."""

    rank: int
    pattern: re.Pattern[str]

    def opener(self, match: re.Match[str], left: str, right: str) -> str | None:
        if not starts_clause(right):
            return None
        word = match["word"]
        return "En effet, " if word == "car" else f"{word.capitalize()} "


@dataclass(frozen=True)
class Subordinate:
    """« , tandis que S V » → « . Pendant ce temps, S V »."""

    rank: int
    pattern: re.Pattern[str]
    adverb: str

    def opener(self, match: re.Match[str], left: str, right: str) -> str | None:
        return self.adverb if starts_clause(right) and closes(right) else None


@dataclass(frozen=True)
class Neuter:
    """« , ce qui V » → « . Cela V »."""

    rank: int
    pattern: re.Pattern[str]

    def opener(self, match: re.Match[str], left: str, right: str) -> str | None:
        return "Cela " if verb_first(right) and closes(right) else None


@dataclass(frozen=True)
class Relative:
    """« un homme, qui V » → « un homme. Celui-ci V », where « un » tells the gender."""

    rank: int
    pattern: re.Pattern[str]

    def opener(self, match: re.Match[str], left: str, right: str) -> str | None:
        # A comma may end the relative clause in the middle of the main one.
        if "," in right or not verb_first(right):
            return None
        return pronoun_for(left)


def words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


RULES: tuple[Rule, ...] = (
    Mark(0, words(r"\s*;\s*")),
    Conjunction(1, words(r",\s+(?P<word>mais|or|car|puis|pourtant|cependant|toutefois)\s+")),
    Mark(2, words(r"\s+:\s+(?![«“])")),
    Conjunction(2, words(r",\s+(?P<word>et|donc|alors|enfin|aussitôt)\s+")),
    Neuter(3, words(r",\s+ce\s+qui\s+")),
    Subordinate(3, words(r",\s+(?:tandis|pendant)\s+qu(?:e\s+|['’])"), "Pendant ce temps, "),
    Subordinate(
        3,
        words(r",\s+(?:si\s+bien|de\s+(?:telle\s+)?sorte)\s+qu(?:e\s+|['’])"),
        "Ainsi, ",
    ),
    Subordinate(3, words(r",\s+(?:parce|puis)\s?qu(?:e\s+|['’])"), "En effet, "),
    Subordinate(4, words(r",\s+où\s+"), "Là, "),
    Relative(5, words(r",\s+qui\s+")),
    Conjunction(
        6,
        words(r"\s+(?P<word>et|mais|puis)\s+(?=(?:il|elle|on|ils|elles|je|nous|vous)\s)"),
    ),
)


# --- what little grammar the rules need ---------------------------------------------------

SUBJECT_PRONOUNS = frozenset(
    "je j tu il elle on nous vous ils elles ce c cela ceci ça celui-ci celle-ci ceux-ci celles-ci "
    "chacun personne rien tout quelqu'un".split()
)
DETERMINERS = frozenset(
    "le la les l un une des du ce cet cette ces mon ma mes ton ta tes son sa ses notre nos votre vos "
    "leur leurs chaque quelque quelques plusieurs aucun aucune nul nulle tous toutes deux trois".split()
)
CLITICS = frozenset("ne n se s me m te t le la les l lui leur y en nous vous".split())
SUBORDINATORS = frozenset(
    "que qu qui dont où lorsque lorsqu quand puisque puisqu quoique quoiqu "
    "lequel laquelle lesquels lesquelles auquel duquel".split()
)
# A sentence that begins so is a clause that waits for another.
OPENING_SUBORDINATORS = frozenset(
    "lorsque lorsqu quand si comme puisque puisqu quoique quoiqu bien afin dès pendant tandis après "
    "avant pour que qu".split()
)
VERBS = frozenset(
    "est sont fut furent soit soient fût a ont eut eurent ai as avons avez suis es sommes êtes va vont "
    "vais fait font fit firent dit disent peut peuvent put purent pût doit doivent dut durent faut "
    "fallut veut veulent voulut sait savent sut vit voit voient vint vient viennent tint tient met "
    "mit mirent prit prend prennent crut croit parut paraît semble semblait faisait allait devint "
    "devient reste resta demeure demeura connaît connut reçut courut mourut vécut lut dut plut "
    "apparut disparut répondit rendit entendit descendit attendit perdit partit sortit sentit "
    "servit dormit ouvrit offrit souffrit suivit finit saisit choisit".split()
)
VERB_ENDING = re.compile(
    r".{2,}(?:aient|ait|èrent|irent|urent|inrent|vint|tint|erai|erez|erons|eront|irons|iront)$"
    r"|.{3,}(?:[rtsldmngcpvçb]a|era|ira|ssait)$"
)
NOT_VERBS = frozenset(
    "lait trait portrait attrait souhait parfait extrait retrait imparfait bienfait forfait cela voilà "
    "déjà opéra sofa delta panorama drama cinéma casino malaga véranda persona villa gala panama "
    "tombola mazurka agenda propaganda iota data".split()
)
COMPARATIVES = frozenset("plus moins aussi autant mieux pire tel telle même autre peu".split())
MASCULINE = frozenset("un le ce cet son mon ton du au".split())
FEMININE = frozenset("une la cette sa ma ta".split())


def tokens(text: str) -> list[str]:
    """Words in lower case; elisions are words of their own (« n'a » → n, a)."""
    return re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", text.lower().replace("’", "'"))


def is_verb(word: str) -> bool:
    stem = re.sub(r"-(?:t-)?(?:il|elle|on|ils|elles|je|tu|nous|vous|ce)$", "", word)
    if stem != word:
        return True
    return word in VERBS or (word not in NOT_VERBS and VERB_ENDING.fullmatch(word) is not None)


def has_verb(text: str) -> bool:
    """Whether some word is, or follows the place of, a finite verb."""
    found = tokens(text)
    return any(is_verb(word) for word in found) or any(
        word in SUBJECT_PRONOUNS and verb_follows(found[i + 1 :]) for i, word in enumerate(found)
    )


def verb_follows(rest: list[str]) -> bool:
    """After a subject pronoun, the first word that is no clitic is the verb."""
    while rest and rest[0] in CLITICS:
        rest = rest[1:]
    return bool(rest) and rest[0] not in SUBORDINATORS and rest[0] not in DETERMINERS


def verb_first(text: str) -> bool:
    """Whether the text begins with a verb, clitics aside."""
    found = tokens(text)
    while found and found[0] in CLITICS:
        found = found[1:]
    return bool(found) and is_verb(found[0])


def starts_clause(text: str) -> bool:
    """Whether the text begins with a subject that has a verb before the next subordinate."""
    head = re.split(r"[,;:]", text, maxsplit=1)[0]
    found = tokens(head)
    if not found or found[0] in SUBORDINATORS:
        return False
    if found[0] in SUBJECT_PRONOUNS and found[0] not in DETERMINERS:
        return verb_follows(found[1:])
    if found[0] == "ce" and found[1:2] and found[1] in ("que", "qu", "qui"):
        return has_verb(head)
    named = head.lstrip()[:1].isupper()
    if found[0] not in DETERMINERS and not named:
        return False
    until = next((i for i, word in enumerate(found) if word in SUBORDINATORS), len(found))
    return any(is_verb(word) for word in found[1:until])


def stands_alone(left: str) -> bool:
    """Whether the first half is a sentence: it has a main verb, and its last clause has one too."""
    if not has_verb(left):
        return False
    found = tokens(left)
    clauses = [i for i in range(len(found)) if begins_subordinate(found, i)]
    if clauses and not has_verb(" ".join(found[clauses[-1] + 1 :])):
        return False
    if found[0] in OPENING_SUBORDINATORS:
        # « Quand il vint, nous partîmes »: fine; « Quand il vint »: not.
        return any(starts_clause(piece) for piece in left.split(",")[1:])
    if clauses:
        # The main clause needs a verb of its own: before the first subordinate, or after a comma.
        main = " ".join(found[: clauses[0]])
        return has_verb(main) or any(starts_clause(piece) for piece in left.split(",")[1:])
    return True


def begins_subordinate(found: list[str], at: int) -> bool:
    """« que » after « plus » or « aussi » compares, and no clause need follow."""
    compares = found[at] in ("que", "qu") and COMPARATIVES.intersection(found[max(0, at - 3) : at])
    return found[at] in SUBORDINATORS and not compares


def closes(right: str) -> bool:
    """Whether a subordinate clause runs to the end: no comma that could lead back."""
    return right.count(",") == 0 or all(
        not verb_first(piece) for piece in right.split(",")[1:] if piece.strip()
    )


def pronoun_for(left: str) -> str | None:
    """« Celui-ci » or « Celle-ci », by the determiner of the last noun; `None` if unknown."""
    for word in reversed(tokens(left)[-4:]):
        if word in MASCULINE:
            return "Celui-ci "
        if word in FEMININE:
            return "Celle-ci "
        if word in DETERMINERS or word in ("de", "d", "à", "par", "en"):
            return None
    return None
