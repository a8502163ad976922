import type { Job } from "./api";

const LOCALE = "en-GB";

export const number = (value: number) => value.toLocaleString(LOCALE);

export const dateTime = (iso: string) =>
  new Date(iso).toLocaleString(LOCALE, { dateStyle: "medium", timeStyle: "short" });

export function bytes(value: number): string {
  if (value < 1024 * 1024) return `${Math.max(1, Math.round(value / 1024))} kB`;
  return `${(value / (1024 * 1024)).toFixed(1)} MB`;
}

/** What happens to a job just now, in words. */
export function phase(job: Job): string {
  const { total, done } = job.sentences;
  switch (job.status) {
    case "queued":
      return "Waiting for a worker";
    case "running":
      return total === null ? "Reading the PDF" : `${number(done)} of ${number(total)} sentences`;
    case "done":
      return "Done";
    case "failed":
      return job.error ?? "Failed";
  }
}
