"use client";

import Link from "next/link";
import { useRouter } from "next/navigation";
import { useState } from "react";
import { deleteJob, exportUrl, type Job } from "@/lib/api";
import { bytes, number, phase } from "@/lib/format";
import { useJob } from "@/lib/useJob";
import { SentenceList } from "./SentenceList";
import { StatusBadge } from "./StatusBadge";
import styles from "./JobView.module.css";

export function JobView({ id }: { id: string }) {
  const { job, error } = useJob(id);

  if (error) {
    return (
      <>
        <h1>No such novel</h1>
        <p className="alert" role="alert">
          {error}
        </p>
        <Link href="/history">Back to the history</Link>
      </>
    );
  }
  if (!job) return <p className="muted">Loading…</p>;
  return (
    <article>
      <Head job={job} />
      <Progress job={job} />
      <Figures job={job} />
      {job.status === "done" && <SentenceList job={job} />}
    </article>
  );
}

function Head({ job }: { job: Job }) {
  const router = useRouter();
  const [failure, setFailure] = useState<string | null>(null);

  async function remove() {
    if (!window.confirm(`Delete “${job.filename}” and its sentences?`)) return;
    try {
      await deleteJob(job.id);
      router.push("/history");
    } catch (reason) {
      setFailure(reason instanceof Error ? reason.message : "The novel was not deleted.");
    }
  }

  return (
    <header className={styles.head}>
      <div>
        <h1>{job.filename}</h1>
        <p className={styles.facts}>
          <StatusBadge status={job.status} />
          <span>{bytes(job.size_bytes)}</span>
          <span>at most {job.word_limit} words</span>
          <span>{job.mode === "gemini" ? "by Gemini" : "by grammar rules"}</span>
        </p>
      </div>
      <div className={styles.actions}>
        {job.status === "done" && (
          <>
            <a className="button primary" href={exportUrl(job.id, "csv")} download>
              Export CSV
            </a>
            <a className="button" href={exportUrl(job.id, "json")} download>
              Export JSON
            </a>
          </>
        )}
        <button type="button" className="button" onClick={remove}>
          Delete
        </button>
      </div>
      {failure && (
        <p className="alert" role="alert">
          {failure}
        </p>
      )}
    </header>
  );
}

function Progress({ job }: { job: Job }) {
  const { total, done } = job.sentences;
  if (job.status === "done") return null;
  if (job.status === "failed") {
    return (
      <p className="alert" role="alert">
        {job.error}
      </p>
    );
  }
  return (
    <div className={styles.progress}>
      {/* Without a value the bar shows that something goes on, but not how far. */}
      <progress aria-label="Progress" max={total ?? 1} value={total === null ? undefined : done} />
      <p role="status">{phase(job)}</p>
    </div>
  );
}

function Figures({ job }: { job: Job }) {
  const { total, rewritten, produced, too_long: tooLong } = job.sentences;
  if (total === null) return null;
  const figures = [
    ["Pages", job.pages ?? 0],
    ["Sentences read", total],
    ["Rewritten", rewritten],
    ["Sentences now", produced],
    ["Still too long", tooLong],
  ] as const;
  return (
    <dl className={styles.figures}>
      {figures.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{number(value)}</dd>
        </div>
      ))}
    </dl>
  );
}
