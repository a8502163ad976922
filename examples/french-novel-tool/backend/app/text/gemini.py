"""Long French sentences to shorter ones, by a Gemini model over its REST API."""

import json
import logging
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException

import certifi

from app.text.rewrite import Rewrite, RulesRewriter
from app.text.split import count_words

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30
TRIES = 4
LONGEST_WAIT_SECONDS = 8.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024
# Sentences in one request.
CHUNK = 10

PROMPT = """\
Tu adaptes un roman français pour des apprenants. Réécris chaque phrase du tableau JSON \
ci-dessous en phrases d'au plus {limit} mots chacune. Garde le sens, le temps des verbes, le \
registre et l'ordre des idées ; n'ajoute rien, n'explique rien. Réponds par un tableau JSON \
qui contient, pour chaque phrase reçue et dans le même ordre, le tableau de ses phrases \
réécrites.

{sentences}"""
ANSWER_SCHEMA = {
    "type": "ARRAY",
    "items": {"type": "ARRAY", "items": {"type": "STRING"}},
}


class GeminiRefused(Exception):
    """The API will not answer however often it is asked, a wrong key for one."""


class GeminiUnavailable(Exception):
    """No usable answer this time."""

    def __init__(self, message: str, wait_seconds: float | None = None):
        super().__init__(message)
        self.wait_seconds = wait_seconds


class GeminiRewriter:
    """Asks the model about long sentences only; what it cannot answer is done by rules."""

    def __init__(
        self,
        api_key: str,
        base_url: str,
        model: str,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.api_key = api_key
        self.url = f"{base_url}/v1beta/models/{model}:generateContent"
        self.sleep = sleep
        self.rules = RulesRewriter()
        # The host's bundle where SSL_CERT_FILE names one, else the one in the package.
        self.tls = ssl.create_default_context()
        self.tls.load_verify_locations(cafile=certifi.where())

    def rewrite(self, sentences: list[str], word_limit: int) -> list[Rewrite]:
        """One Rewrite per sentence; raises GeminiRefused."""
        results = [Rewrite([sentence], "kept") for sentence in sentences]
        long = [i for i, sentence in enumerate(sentences) if count_words(sentence) > word_limit]
        for at in range(0, len(long), CHUNK):
            indices = long[at : at + CHUNK]
            asked = [sentences[i] for i in indices]
            for index, rewrite in zip(indices, self.rewrite_long(asked, word_limit)):
                results[index] = rewrite
        return results

    def rewrite_long(self, sentences: list[str], word_limit: int) -> list[Rewrite]:
        try:
            answers = self.ask_with_retries(sentences, word_limit)
        except GeminiUnavailable as error:
            log.warning("gemini gave no answer, rules are used", extra={"reason": str(error)})
            return self.rules.rewrite(sentences, word_limit)
        return [Rewrite(parts, "gemini") for parts in answers]

    def ask_with_retries(self, sentences: list[str], word_limit: int) -> list[list[str]]:
        for attempt in range(TRIES):
            try:
                return self.ask(sentences, word_limit)
            except GeminiUnavailable as error:
                if attempt == TRIES - 1:
                    raise
                wait = 2.0**attempt if error.wait_seconds is None else error.wait_seconds
                self.sleep(min(wait, LONGEST_WAIT_SECONDS))
        raise AssertionError("the last try returns or raises")

    def ask(self, sentences: list[str], word_limit: int) -> list[list[str]]:
        prompt = PROMPT.format(
            limit=word_limit, sentences=json.dumps(sentences, ensure_ascii=False)
        )
        request = urllib.request.Request(
            self.url,
            data=json.dumps(
                {
                    "contents": [{"role": "user", "parts": [{"text": prompt}]}],
                    "generationConfig": {
                        "responseMimeType": "application/json",
                        "responseSchema": ANSWER_SCHEMA,
                        "temperature": 0.2,
                    },
                }
            ).encode(),
            headers={
                "Content-Type": "application/json",
                "x-goog-api-key": self.api_key,
            },
        )
        try:
            context = self.tls if self.url.startswith("https:") else None
            with urllib.request.urlopen(
                request, timeout=TIMEOUT_SECONDS, context=context
            ) as response:
                body = response.read(MAX_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            raise refusal(error) from error
        except (OSError, HTTPException) as error:
            raise GeminiUnavailable(f"cannot reach {self.url}: {error}") from error
        return parse_answer(body, len(sentences))


def refusal(error: urllib.error.HTTPError) -> Exception:
    """Whether an error status is worth another try."""
    if error.code == 429 or error.code >= 500:
        after = error.headers.get("Retry-After", "")
        return GeminiUnavailable(
            f"HTTP status {error.code}", float(after) if after.isdecimal() else None
        )
    return GeminiRefused(f"The Gemini API refused the request with HTTP status {error.code}.")


def parse_answer(body: bytes, expected: int) -> list[list[str]]:
    """The parts of each sentence; raises GeminiUnavailable for anything of another shape."""
    try:
        answer = json.loads(body)
        text = "".join(part["text"] for part in answer["candidates"][0]["content"]["parts"])
        parts = json.loads(text)
    except (ValueError, LookupError, TypeError) as error:
        raise GeminiUnavailable("the answer is not the JSON that was asked for") from error
    well_formed = (
        isinstance(parts, list)
        and len(parts) == expected
        and all(isinstance(p, list) and p for p in parts)
        and all(isinstance(s, str) and s.strip() for p in parts for s in p)
    )
    if not well_formed:
        raise GeminiUnavailable("the answer does not have one list of sentences per sentence")
    return [[" ".join(s.split()) for s in p] for p in parts]
