"""Jobs that are delivered twice, interrupted or deleted on the way."""

from datetime import timedelta

import pytest
from celery.exceptions import Retry

from app import jobs, runtime, tasks, worker
from app.jobs import Claim
from app.models import Status
from app.text.rewrite import RulesRewriter


@pytest.fixture
def session(current):
    with current.sessions() as session:
        yield session


@pytest.fixture
def job_id(session, sample_pdf):
    return jobs.create(
        session, filename="a.pdf", content=sample_pdf, mode="rules", word_limit=15
    ).id


def run(job_id):
    tasks.process.apply(args=[job_id], throw=True)


def state(session, job_id):
    session.expire_all()
    return jobs.find(session, job_id)


class Dying:
    """Rewrites some batches, then the process dies."""

    def __init__(self, batches):
        self.left = batches

    def rewrite(self, sentences, word_limit):
        if self.left == 0:
            raise SystemExit
        self.left -= 1
        return RulesRewriter().rewrite(sentences, word_limit)


def use_rewriter(monkeypatch, rewriter):
    monkeypatch.setattr(worker, "make_rewriter", lambda mode: rewriter)


def test_a_job_goes_on_where_a_dead_worker_stopped(session, job_id, monkeypatch):
    monkeypatch.setitem(worker.BATCH, "rules", 10)
    with monkeypatch.context() as patch:
        use_rewriter(patch, Dying(2))
        with pytest.raises(SystemExit):
            run(job_id)
    halfway = state(session, job_id)
    assert (halfway.status, halfway.done) == (Status.RUNNING, 20)
    run(job_id)
    finished = state(session, job_id)
    assert finished.status == Status.DONE
    assert finished.done == finished.total
    parts = [part for s in jobs.all_sentences(session, job_id) for part in s.parts]
    assert finished.produced == len(parts)


def test_a_worker_that_is_told_to_stop_hands_its_job_on(session, job_id, monkeypatch, tmp_path):
    handed_on = []
    stopping = tmp_path / "stopping"

    class Stopped(RulesRewriter):
        def rewrite(self, sentences, word_limit):
            stopping.touch()
            return super().rewrite(sentences, word_limit)

    monkeypatch.setitem(worker.BATCH, "rules", 10)
    monkeypatch.setattr(worker, "STOPPING_FILE", stopping)
    monkeypatch.setattr(worker.process_task, "delay", handed_on.append)
    with monkeypatch.context() as patch:
        use_rewriter(patch, Stopped())
        run(job_id)
    halfway = state(session, job_id)
    assert (halfway.status, halfway.done, halfway.leased_until) == (Status.RUNNING, 10, None)
    assert handed_on == [job_id]
    stopping.unlink()
    run(job_id)
    assert state(session, job_id).status == Status.DONE


def test_a_second_delivery_of_a_finished_job_does_nothing(session, job_id):
    run(job_id)
    before = jobs.describe(state(session, job_id))
    run(job_id)
    assert jobs.describe(state(session, job_id)) == before


def test_a_job_that_another_worker_holds_waits(session, job_id):
    assert jobs.claim(session, job_id, "another") is Claim.TAKEN
    with pytest.raises(Retry) as waits:
        run(job_id)
    # Until the other's lease would end, not again and again.
    assert 55 < waits.value.when <= 61
    assert state(session, job_id).owner == "another"


def test_a_lost_lease_stops_the_first_worker(session, job_id):
    jobs.claim(session, job_id, "first")
    jobs.save_text(session, job_id, "first", pages=1, sentences=["Un.", "Deux."])
    jobs.renew(session, job_id, "first")
    expire(session, job_id)
    assert jobs.claim(session, job_id, "second") is Claim.TAKEN
    batch = jobs.next_batch(session, job_id, 10)
    rewrites = RulesRewriter().rewrite([p.original for p in batch], 15)
    saved = {"word_limit": 15, "batch": batch, "rewrites": rewrites}
    assert not jobs.save_batch(session, job_id, "first", **saved)
    assert jobs.save_batch(session, job_id, "second", **saved)
    assert state(session, job_id).done == 2


def expire(session, job_id):
    job = state(session, job_id)
    job.leased_until = jobs.now() - timedelta(seconds=1)
    session.commit()


def test_a_file_that_kills_workers_is_given_up(session, job_id, monkeypatch):
    for _ in range(jobs.MAX_ATTEMPTS):
        assert jobs.claim(session, job_id, "dies") is Claim.TAKEN
    assert jobs.claim(session, job_id, "next") is Claim.BUSY
    expire(session, job_id)
    run(job_id)
    job = state(session, job_id)
    assert (job.status, "crash" in job.error) == (Status.FAILED, True)


def test_a_job_that_is_given_back_again_and_again_is_not_given_up(session, job_id):
    for _ in range(jobs.MAX_ATTEMPTS + 1):
        assert jobs.claim(session, job_id, "stopped") is Claim.TAKEN
        jobs.release(session, job_id, "stopped")


def test_a_job_deleted_on_the_way_ends_quietly(session, job_id, monkeypatch):
    class Deleting(RulesRewriter):
        def rewrite(self, sentences, word_limit):
            with runtime.current().sessions() as other:
                jobs.remove(other, job_id)
            return super().rewrite(sentences, word_limit)

    use_rewriter(monkeypatch, Deleting())
    run(job_id)
    assert state(session, job_id) is None


def test_our_own_errors_fail_the_job_without_details(session, job_id, monkeypatch):
    class Broken:
        def rewrite(self, sentences, word_limit):
            raise ZeroDivisionError("secret detail")

    use_rewriter(monkeypatch, Broken())
    run(job_id)
    job = state(session, job_id)
    assert job.status == Status.FAILED
    assert "secret" not in job.error


def test_unfinished_jobs_are_queued_when_a_worker_starts(session, job_id):
    worker.take_up_unfinished()
    assert state(session, job_id).status == Status.DONE
