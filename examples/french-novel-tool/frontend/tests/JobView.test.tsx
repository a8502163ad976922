import { act, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { JobView } from "@/components/JobView";
import { FakeEventSource, fakeServer, finished, job, problem } from "./fakes";

const push = vi.fn();
vi.mock("next/navigation", () => ({ useRouter: () => ({ push }) }));

const { id } = job();
const SENTENCES = `/api/v1/jobs/${id}/sentences`;
const REWRITTEN = {
  sentences: [
    {
      position: 3,
      original: "Il vint ; il vit.",
      method: "rules",
      sentences: ["Il vint.", "Il vit."],
    },
  ],
  total: 1,
};

beforeEach(() => {
  push.mockReset();
  vi.stubGlobal("EventSource", FakeEventSource);
});

const send = (event: string, data?: unknown) => act(() => FakeEventSource.last.send(event, data));

describe("a job that is watched", () => {
  test("shows each step until the result is there", async () => {
    fakeServer({ [`GET ${SENTENCES}?limit=100&offset=0&only=rewritten`]: REWRITTEN });
    render(<JobView id={id} />);
    expect(FakeEventSource.last.url).toBe(`/api/v1/jobs/${id}/events`);

    send("job", job());
    expect(screen.getByRole("status").textContent).toBe("Waiting for a worker");

    send("job", job({ status: "running" }));
    expect(screen.getByRole("status").textContent).toBe("Reading the PDF");
    expect(screen.getByRole("progressbar").hasAttribute("value")).toBe(false);

    const half = { total: 1200, done: 600, rewritten: 90, produced: 700, too_long: 3 };
    send("job", job({ status: "running", sentences: half }));
    expect(screen.getByRole("status").textContent).toBe("600 of 1,200 sentences");
    expect(screen.getByRole<HTMLProgressElement>("progressbar").position).toBe(0.5);

    send("job", finished());
    send("end");
    expect(FakeEventSource.last.readyState).toBe(FakeEventSource.CLOSED);
    expect(screen.queryByRole("progressbar")).toBeNull();
    expect(await screen.findByText("Il vint.")).toBeTruthy();
    expect(screen.getByText("Il vint ; il vit.").lang).toBe("fr");
    const csv = screen.getByRole("link", { name: "Export CSV" });
    expect(csv.getAttribute("href")).toBe(`/api/v1/jobs/${id}/export?format=csv`);
  });

  test("says why it failed", () => {
    render(<JobView id={id} />);
    send("job", job({ status: "failed", error: "The file is not a readable PDF." }));
    expect(screen.getByRole("alert").textContent).toBe("The file is not a readable PDF.");
    expect(screen.queryByRole("link", { name: "Export CSV" })).toBeNull();
  });

  test("goes on over a short cut, which the browser mends", () => {
    const fetch = fakeServer({});
    render(<JobView id={id} />);
    send("job", job({ status: "running" }));
    act(() => FakeEventSource.last.fail(FakeEventSource.CONNECTING));
    expect(screen.getByRole("status").textContent).toBe("Reading the PDF");
    expect(fetch).not.toHaveBeenCalled();
    send("job", job({ status: "failed", error: "Broken." }));
    expect(screen.getByRole("alert").textContent).toBe("Broken.");
  });

  test("asks for the job when there is no stream", async () => {
    fakeServer({ [`GET /api/v1/jobs/${id}`]: job({ status: "failed", error: "Broken." }) });
    render(<JobView id={id} />);
    act(() => FakeEventSource.last.fail(FakeEventSource.CLOSED));
    expect((await screen.findByRole("alert")).textContent).toBe("Broken.");
  });

  test("that does not exist is said to be missing", async () => {
    fakeServer({ [`GET /api/v1/jobs/${id}`]: problem(404, "There is no such job.") });
    render(<JobView id={id} />);
    act(() => FakeEventSource.last.fail(FakeEventSource.CLOSED));
    expect((await screen.findByRole("alert")).textContent).toBe("There is no such job.");
  });

  test("closes its stream when the page is left", () => {
    const { unmount } = render(<JobView id={id} />);
    unmount();
    expect(FakeEventSource.last.readyState).toBe(FakeEventSource.CLOSED);
  });
});

describe("a finished job", () => {
  const all = (from: number, count: number) => ({
    sentences: Array.from({ length: count }, (_, n) => ({
      position: from + n,
      original: `Phrase ${from + n}.`,
      method: "kept",
      sentences: [`Phrase ${from + n}.`],
    })),
    total: 130,
  });

  test("shows all sentences, page by page", async () => {
    fakeServer({
      [`GET ${SENTENCES}?limit=100&offset=0&only=rewritten`]: REWRITTEN,
      [`GET ${SENTENCES}?limit=100&offset=0&only=all`]: all(0, 100),
      [`GET ${SENTENCES}?limit=100&offset=100&only=all`]: all(100, 30),
    });
    render(<JobView id={id} />);
    send("job", finished());
    await userEvent.click(screen.getByRole("button", { name: "All" }));
    expect(await screen.findByText("Phrase 99.")).toBeTruthy();
    await userEvent.click(screen.getByRole("button", { name: "Show more (30 left)" }));
    expect(await screen.findByText("Phrase 129.")).toBeTruthy();
    expect(screen.getAllByText(/^Phrase/)).toHaveLength(130);
    expect(screen.queryByRole("button", { name: /Show more/ })).toBeNull();
  });

  test("is deleted after a question", async () => {
    const confirm = vi.spyOn(window, "confirm").mockReturnValueOnce(false).mockReturnValue(true);
    const fetch = fakeServer({
      [`GET ${SENTENCES}?limit=100&offset=0&only=rewritten`]: REWRITTEN,
      [`DELETE /api/v1/jobs/${id}`]: new Response(null, { status: 204 }),
    });
    render(<JobView id={id} />);
    send("job", finished());
    const remove = screen.getByRole("button", { name: "Delete" });
    await userEvent.click(remove);
    expect(fetch).not.toHaveBeenCalledWith(`/api/v1/jobs/${id}`, expect.anything());
    await userEvent.click(remove);
    await waitFor(() => expect(push).toHaveBeenCalledWith("/history"));
    expect(confirm).toHaveBeenCalledTimes(2);
  });
});
