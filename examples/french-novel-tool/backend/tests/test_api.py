"""The HTTP API as a browser uses it."""

import csv
import io
import json
from dataclasses import replace

import pytest
from kombu.exceptions import OperationalError
from sqlalchemy import create_engine

from app import api, jobs
from app.models import Status
from app.web import create_app
from app.tasks import process
from app.text.split import count_words


def post(client, content, name="Le tour du monde.pdf", **form):
    form["file"] = (io.BytesIO(content), name)
    return client.post("/api/v1/jobs", data=form)


def error_code(response):
    return response.get_json()["error"]["code"]


@pytest.fixture
def waiting(monkeypatch):
    """Jobs stay in the queue: the list of the ids that were sent."""
    sent = []
    monkeypatch.setattr(api.process, "delay", sent.append)
    return sent


def test_a_novel_goes_in_and_short_sentences_come_out(client, sample_pdf):
    response = post(client, sample_pdf, word_limit="15")
    assert response.status_code == 202
    job = client.get(response.headers["Location"]).get_json()
    assert job["status"] == "done"
    assert job["pages"] == 4
    assert job["filename"] == "Le tour du monde.pdf"
    counts = job["sentences"]
    assert counts["total"] == counts["done"] > 40
    assert counts["rewritten"] >= 6
    assert counts["produced"] > counts["total"]

    page = client.get(f"/api/v1/jobs/{job['id']}/sentences?limit=500").get_json()
    by_original = {s["original"]: s for s in page["sentences"]}
    assert page["total"] == counts["total"] == len(page["sentences"])
    kept = by_original["Avait-il voyagé ?"]
    assert (kept["method"], kept["sentences"]) == ("kept", ["Avait-il voyagé ?"])
    cut = next(s for o, s in by_original.items() if o.startswith("Un seul domestique"))
    assert cut["method"] == "rules"
    assert cut["sentences"][0] == "Un seul domestique suffisait à le servir."
    produced = [part for s in page["sentences"] for part in s["sentences"]]
    assert counts["produced"] == len(produced)
    assert counts["too_long"] == sum(count_words(part) > 15 for part in produced)


def test_rewritten_sentences_alone(client, sample_pdf):
    job = post(client, sample_pdf, word_limit="15").get_json()
    page = client.get(f"/api/v1/jobs/{job['id']}/sentences?only=rewritten&limit=500").get_json()
    assert page["total"] == len(page["sentences"]) > 0
    assert {s["method"] for s in page["sentences"]} == {"rules"}
    assert error_code(client.get(f"/api/v1/jobs/{job['id']}/sentences?only=x")) == "bad_only"


def test_the_pdf_is_not_kept(client, current, sample_pdf):
    job = post(client, sample_pdf).get_json()
    with current.sessions() as session:
        assert jobs.upload(session, job["id"]) is None


def test_exports(client, sample_pdf):
    job = post(client, sample_pdf).get_json()
    data = client.get(f"/api/v1/jobs/{job['id']}/export?format=json")
    exported = json.loads(data.data)
    assert exported["job"]["status"] == "done"
    assert len(exported["sentences"]) == exported["job"]["sentences"]["total"]

    table = client.get(f"/api/v1/jobs/{job['id']}/export?format=csv")
    assert table.headers["Content-Disposition"] == 'attachment; filename="Le-tour-du-monde.csv"'
    rows = list(csv.DictReader(io.StringIO(table.data.decode("utf-8-sig"))))
    assert len(rows) == exported["job"]["sentences"]["produced"]
    assert rows[0]["original"] == "CHAPITRE I"

    assert error_code(client.get(f"/api/v1/jobs/{job['id']}/export?format=xml")) == "bad_format"


def test_cells_are_no_formulas():
    assert api.safe_cell("=1+1") == "'=1+1"
    assert api.safe_cell("— Oui.") == "— Oui."


def test_history_is_newest_first_and_paged(client, sample_pdf):
    ids = [post(client, sample_pdf, name=f"{n}.pdf").get_json()["id"] for n in range(3)]
    listing = client.get("/api/v1/jobs?limit=2").get_json()
    assert [job["id"] for job in listing["jobs"]] == ids[:0:-1]
    assert listing["total"] == 3
    assert client.get("/api/v1/jobs?offset=2").get_json()["jobs"][0]["id"] == ids[0]
    assert error_code(client.get("/api/v1/jobs?limit=0")) == "bad_limit"


def test_delete(client, current, sample_pdf):
    job = post(client, sample_pdf).get_json()
    assert client.delete(f"/api/v1/jobs/{job['id']}").status_code == 204
    assert client.get(f"/api/v1/jobs/{job['id']}").status_code == 404
    assert client.delete(f"/api/v1/jobs/{job['id']}").status_code == 404
    with current.sessions() as session:
        assert jobs.sentences(session, job["id"], limit=1, offset=0) == []


def test_a_result_is_exported_only_when_complete(client, sample_pdf, waiting):
    job = post(client, sample_pdf).get_json()
    assert job["status"] == "queued"
    response = client.get(f"/api/v1/jobs/{job['id']}/export")
    assert (response.status_code, error_code(response)) == (409, "not_done")


@pytest.mark.parametrize(
    ("content", "form", "status", "code"),
    [
        (b"PK\x03\x04", {}, 415, "not_a_pdf"),
        (b"%PDF-1.4", {"word_limit": "7"}, 422, "bad_word_limit"),
        (b"%PDF-1.4", {"word_limit": "many"}, 422, "bad_word_limit"),
        (b"%PDF-1.4", {"word_limit": "²"}, 422, "bad_word_limit"),
        (b"%PDF-1.4", {"mode": "magic"}, 422, "bad_mode"),
        (b"%PDF-1.4", {"mode": "gemini"}, 422, "gemini_not_configured"),
    ],
)
def test_bad_uploads(client, content, form, status, code):
    response = post(client, content, **form)
    assert (response.status_code, error_code(response)) == (status, code)
    assert client.get("/api/v1/jobs").get_json()["total"] == 0


def test_a_form_without_a_file(client):
    response = client.post("/api/v1/jobs", data={"word_limit": "20"})
    assert (response.status_code, error_code(response)) == (400, "file_missing")


def test_too_large(client):
    client.application.config["MAX_CONTENT_LENGTH"] = 1000
    assert post(client, b"%PDF-" + bytes(2000)).status_code == 413


def test_a_broken_pdf_fails_with_a_reason(client):
    job = post(client, b"%PDF-1.4 and nothing else").get_json()
    job = client.get(f"/api/v1/jobs/{job['id']}").get_json()
    assert (job["status"], job["error"]) == (
        "failed",
        "The file is not a readable PDF.",
    )


def test_no_queue_no_job(client, monkeypatch):
    def refuse(job_id):
        raise OperationalError("redis is away")

    monkeypatch.setattr(api.process, "delay", refuse)
    response = post(client, b"%PDF-1.4")
    assert (response.status_code, error_code(response)) == (503, "queue_unavailable")
    assert client.get("/api/v1/jobs").get_json()["total"] == 0


def test_unknown_jobs_and_paths(client):
    for path in (
        "/api/v1/jobs/nonsense",
        "/api/v1/jobs/00000000-0000-0000-0000-000000000000/events",
        "/api/v1/jobs/00000000-0000-0000-0000-000000000000/sentences",
        "/api/v1/nothing",
    ):
        response = client.get(path)
        assert response.status_code == 404
        assert error_code(response)


def events(response):
    """The (event, data) pairs of a finished stream."""
    blocks = [b for b in response.get_data(as_text=True).split("\n\n") if b.startswith("event")]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in (block.split("\n") for block in blocks)
    ]


def test_events_of_a_finished_job(client, sample_pdf):
    job = post(client, sample_pdf).get_json()
    response = client.get(f"/api/v1/jobs/{job['id']}/events")
    assert response.content_type.startswith("text/event-stream")
    assert [name for name, _ in events(response)] == ["job", "end"]


def test_events_while_a_job_is_worked_on(client, current, sample_pdf, waiting):
    job = post(client, sample_pdf).get_json()
    stream = client.get(f"/api/v1/jobs/{job['id']}/events").iter_encoded()
    assert next(stream).startswith(b"retry:")
    assert b'"status": "queued"' in next(stream)
    process.apply(args=[job["id"]])
    rest = b"".join(stream).decode()
    states = [json.loads(line[6:]) for line in rest.split("\n") if line.startswith('data: {"id"')]
    assert [state["status"] for state in states][-1] == "done"
    assert any(0 < s["sentences"]["done"] <= s["sentences"]["total"] for s in states[1:])
    assert rest.endswith("event: end\ndata: {}\n\n")


def test_streams_are_limited_and_end_when_the_server_stops(client, sample_pdf, waiting):
    job = post(client, sample_pdf).get_json()
    path = f"/api/v1/jobs/{job['id']}/events"
    streams = client.application.extensions["streams"]
    open_streams = [client.get(path) for _ in range(24)]
    assert error_code(client.get(path)) == "too_many_streams"
    open_streams.pop().close()
    open_streams.append(client.get(path))
    assert open_streams[-1].status_code == 200
    streams.stop()
    for response in open_streams:
        assert events(response)[0][0] == "job"
        response.close()
    assert client.get(path).status_code == 200


def test_version_options_and_health(client):
    assert client.get("/api/v1/version").get_json()["version"]
    assert client.get("/api/v1/options").get_json()["modes"] == ["rules"]
    assert client.get("/api/v1/health/live").get_json() == {"status": "ok"}
    assert client.get("/api/v1/health/ready").get_json()["status"] == "ok"


def test_not_ready_without_its_database(current, tmp_path):
    nowhere = create_engine(f"sqlite:///{tmp_path}/missing/folder.db")
    client = create_app(replace(current, engine=nowhere)).test_client()
    response = client.get("/api/v1/health/ready")
    assert response.status_code == 503
    assert response.get_json()["checks"] == {"database": "unavailable", "redis": "ok"}


def test_metrics(client, sample_pdf):
    post(client, sample_pdf)
    text = client.get("/metrics").get_data(as_text=True)
    assert 'http_requests_total{method="POST",route="/api/v1/jobs",status="202"} 1.0' in text
    assert f'novels_jobs{{status="{Status.DONE}"}} 1.0' in text


def test_request_ids(client):
    given = client.get("/api/v1/version", headers={"X-Request-Id": "abc-1"})
    assert given.headers["X-Request-Id"] == "abc-1"
    made = client.get("/api/v1/version", headers={"X-Request-Id": "no spaces please"})
    assert len(made.headers["X-Request-Id"]) == 32
