/** The back end's API, on the same origin under /api/v1. */

export type Status = "queued" | "running" | "done" | "failed";
export type Mode = "rules" | "gemini";

export interface Counts {
  /** Unknown until the PDF was read. */
  total: number | null;
  done: number;
  rewritten: number;
  produced: number;
  too_long: number;
}

export interface Job {
  id: string;
  filename: string;
  size_bytes: number;
  mode: Mode;
  word_limit: number;
  status: Status;
  error: string | null;
  pages: number | null;
  sentences: Counts;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
}

export interface Sentence {
  position: number;
  original: string;
  /** `null` until the sentence was worked on. */
  method: "kept" | Mode | null;
  sentences: string[] | null;
}

export interface Options {
  modes: Mode[];
  word_limit: { default: number; min: number; max: number };
  max_upload_bytes: number;
}

export interface JobPage {
  jobs: Job[];
  total: number;
}

export interface SentencePage {
  sentences: Sentence[];
  total: number;
}

export const BASE = "/api/v1";

/** An answer other than success, or none at all (`status` 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

async function call<T>(path: string, init?: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(BASE + path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "The server cannot be reached.");
  }
  if (!response.ok) throw new ApiError(response.status, await reason(response));
  return response.status === 204 ? (undefined as T) : ((await response.json()) as T);
}

/** The API's own words, or something to say when a proxy answered in its place. */
async function reason(response: Response): Promise<string> {
  try {
    const body = (await response.json()) as { error?: { message?: string } };
    if (body.error?.message) return body.error.message;
  } catch {
    // Not JSON: an error page.
  }
  return `The server answered with status ${response.status}.`;
}

export const getOptions = (signal?: AbortSignal) => call<Options>("/options", { signal });

export const listJobs = (limit: number, offset: number, signal?: AbortSignal) =>
  call<JobPage>(`/jobs?limit=${limit}&offset=${offset}`, { signal });

export const getJob = (id: string, signal?: AbortSignal) =>
  call<Job>(`/jobs/${encodeURIComponent(id)}`, { signal });

export const deleteJob = (id: string) =>
  call<void>(`/jobs/${encodeURIComponent(id)}`, { method: "DELETE" });

export function getSentences(
  id: string,
  query: { limit: number; offset: number; only: "all" | "rewritten" },
  signal?: AbortSignal,
) {
  const { limit, offset, only } = query;
  const path = `/jobs/${encodeURIComponent(id)}/sentences`;
  return call<SentencePage>(`${path}?limit=${limit}&offset=${offset}&only=${only}`, { signal });
}

export function createJob(file: File, wordLimit: number, mode: Mode) {
  const form = new FormData();
  form.set("file", file);
  form.set("word_limit", String(wordLimit));
  form.set("mode", mode);
  return call<Job>("/jobs", { method: "POST", body: form });
}

export const eventsUrl = (id: string) => `${BASE}/jobs/${encodeURIComponent(id)}/events`;

export const exportUrl = (id: string, format: "csv" | "json") =>
  `${BASE}/jobs/${encodeURIComponent(id)}/export?format=${format}`;

export const isOver = (job: Job) => job.status === "done" || job.status === "failed";
