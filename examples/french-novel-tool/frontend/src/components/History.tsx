"use client";

import Link from "next/link";
import { useState } from "react";
import { deleteJob, type Job } from "@/lib/api";
import { useJobs } from "@/lib/useJobs";
import { JobTable } from "./JobTable";
import styles from "./History.module.css";

const PAGE = 20;

export function History() {
  const [offset, setOffset] = useState(0);
  const [failure, setFailure] = useState<string | null>(null);
  const { page, error, reload } = useJobs(PAGE, offset);

  async function remove(job: Job) {
    if (!window.confirm(`Delete “${job.filename}” and its sentences?`)) return;
    try {
      await deleteJob(job.id);
      setFailure(null);
      if (page?.jobs.length === 1 && offset > 0) setOffset(offset - PAGE);
      else reload();
    } catch (reason) {
      setFailure(reason instanceof Error ? reason.message : "The novel was not deleted.");
    }
  }

  const problem = failure ?? error;
  return (
    <>
      {problem && (
        <p className="alert" role="alert">
          {problem}
        </p>
      )}
      {!page && !problem && <p className="muted">Loading…</p>}
      {page && page.total === 0 && (
        <p>
          Nothing here yet. <Link href="/">Upload the first novel</Link>.
        </p>
      )}
      {page && page.jobs.length > 0 && <JobTable jobs={page.jobs} onDelete={remove} />}
      {page && page.total > PAGE && (
        <nav className={styles.pages} aria-label="Pages">
          <button
            type="button"
            className="button"
            disabled={offset === 0}
            onClick={() => setOffset(offset - PAGE)}
          >
            Newer
          </button>
          <span className="muted">
            {offset + 1}–{offset + page.jobs.length} of {page.total}
          </span>
          <button
            type="button"
            className="button"
            disabled={offset + PAGE >= page.total}
            onClick={() => setOffset(offset + PAGE)}
          >
            Older
          </button>
        </nav>
      )}
    </>
  );
}
