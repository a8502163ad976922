/** Strict stand-ins for what jsdom lacks and for the back end. */

import { vi } from "vitest";
import type { Job } from "@/lib/api";

export function job(changes: Partial<Job> = {}): Job {
  return {
    id: "11111111-2222-3333-4444-555555555555",
    filename: "Le tour du monde.pdf",
    size_bytes: 4576,
    mode: "rules",
    word_limit: 20,
    status: "queued",
    error: null,
    pages: null,
    sentences: { total: null, done: 0, rewritten: 0, produced: 0, too_long: 0 },
    created_at: "2026-11-22T20:00:00+00:00",
    started_at: null,
    finished_at: null,
    ...changes,
  };
}

export const finished = (changes: Partial<Job> = {}) =>
  job({
    status: "done",
    pages: 4,
    sentences: { total: 46, done: 46, rewritten: 6, produced: 54, too_long: 9 },
    ...changes,
  });

/** Answers by method and path; anything else fails the test. */
export function fakeServer(answers: Record<string, unknown>) {
  const fetch = vi.fn(async (input: RequestInfo | URL, init?: RequestInit) => {
    const key = `${init?.method ?? "GET"} ${String(input)}`;
    if (!(key in answers)) throw new Error(`nothing answers ${key}`);
    const answer = answers[key];
    if (answer instanceof Response) return answer.clone();
    return Response.json(answer);
  });
  vi.stubGlobal("fetch", fetch);
  return fetch;
}

export const problem = (status: number, message: string) =>
  Response.json({ error: { code: "x", message } }, { status });

/** An event stream whose events the test sends. */
export class FakeEventSource extends EventTarget {
  static readonly CONNECTING = 0;
  static readonly OPEN = 1;
  static readonly CLOSED = 2;
  static last: FakeEventSource;
  readyState = FakeEventSource.CONNECTING;

  constructor(readonly url: string) {
    super();
    FakeEventSource.last = this;
  }

  send(event: string, data: unknown = {}) {
    if (this.readyState === FakeEventSource.CLOSED) throw new Error("sent to a closed stream");
    this.readyState = FakeEventSource.OPEN;
    this.dispatchEvent(new MessageEvent(event, { data: JSON.stringify(data) }));
  }

  fail(readyState: number) {
    this.readyState = readyState;
    this.dispatchEvent(new Event("error"));
  }

  close() {
    this.readyState = FakeEventSource.CLOSED;
  }
}
