"use client";

import { useEffect, useState } from "react";
import { listJobs, type JobPage } from "./api";

/** While a job is under way the list is asked for again this often. */
const REFRESH_MS = 3000;

export interface JobsState {
  page: JobPage | null;
  error: string | null;
  /** Asks again now. */
  reload: () => void;
}

/** A page of the history, kept fresh while something in it moves. */
export function useJobs(limit: number, offset: number): JobsState {
  const [page, setPage] = useState<JobPage | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [round, setRound] = useState(0);

  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;

    async function load() {
      try {
        const found = await listJobs(limit, offset, abort.signal);
        setPage(found);
        setError(null);
        const moving = found.jobs.some((job) => job.status === "queued" || job.status === "running");
        if (moving) timer = setTimeout(load, REFRESH_MS);
      } catch (failure) {
        if (abort.signal.aborted) return;
        setError(failure instanceof Error ? failure.message : "The history cannot be read.");
        timer = setTimeout(load, REFRESH_MS);
      }
    }

    void load();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [limit, offset, round]);

  return { page, error, reload: () => setRound((n) => n + 1) };
}
