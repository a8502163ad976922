"use client";

import { useEffect, useState } from "react";
import { ApiError, eventsUrl, getJob, isOver, type Job } from "./api";

/** Between two questions when the server takes no event stream. */
const POLL_MS = 2000;

export interface JobState {
  job: Job | null;
  /** Why there is no job, or `null`. */
  error: string | null;
  /** Whether news arrive as they happen. */
  live: boolean;
}

/**
 * Follows a job by server-sent events until it is over. The browser reconnects by itself when
 * a stream is cut, in a deploy for one; where it gives up, the job is asked for instead.
 */
export function useJob(id: string): JobState {
  const [state, setState] = useState<JobState>({ job: null, error: null, live: false });

  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const source = new EventSource(eventsUrl(id));

    const fail = (error: string) => setState({ job: null, error, live: false });

    async function poll() {
      try {
        const job = await getJob(id, abort.signal);
        setState({ job, error: null, live: false });
        if (!isOver(job)) timer = setTimeout(poll, POLL_MS);
      } catch (error) {
        if (abort.signal.aborted) return;
        if (error instanceof ApiError && error.status === 404) fail(error.message);
        else timer = setTimeout(poll, POLL_MS);
      }
    }

    source.addEventListener("open", () => setState((old) => ({ ...old, live: true })));
    source.addEventListener("job", (event) =>
      setState({ job: JSON.parse(event.data) as Job, error: null, live: true }),
    );
    source.addEventListener("end", () => {
      source.close();
      setState((old) => ({ ...old, live: false }));
    });
    source.addEventListener("gone", () => {
      source.close();
      fail("This novel was deleted.");
    });
    source.addEventListener("error", () => {
      setState((old) => ({ ...old, live: false }));
      if (source.readyState === EventSource.CLOSED) void poll();
    });

    return () => {
      source.close();
      abort.abort();
      clearTimeout(timer);
    };
  }, [id]);

  return state;
}
