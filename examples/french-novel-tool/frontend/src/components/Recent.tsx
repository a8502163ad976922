"use client";

import Link from "next/link";
import { useJobs } from "@/lib/useJobs";
import { JobTable } from "./JobTable";

const SHOWN = 5;

/** The latest novels; nothing at all before there is one. */
export function Recent() {
  const { page } = useJobs(SHOWN, 0);
  if (!page?.jobs.length) return null;
  return (
    <section aria-labelledby="recent">
      <h2 id="recent">Recent novels</h2>
      <JobTable jobs={page.jobs} />
      {page.total > SHOWN && (
        <p>
          <Link href="/history">All {page.total} novels</Link>
        </p>
      )}
    </section>
  );
}
