import { render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test, vi } from "vitest";
import { History } from "@/components/History";
import { Recent } from "@/components/Recent";
import { fakeServer, finished, job, problem } from "./fakes";

const FIRST = "GET /api/v1/jobs?limit=20&offset=0";

test("lists novels with a link to each", async () => {
  fakeServer({ [FIRST]: { jobs: [finished()], total: 1 } });
  render(<History />);
  const link = await screen.findByRole("link", { name: "Le tour du monde.pdf" });
  expect(link.getAttribute("href")).toBe(`/jobs/${job().id}`);
  const row = within(screen.getAllByRole("row")[1] as HTMLElement);
  expect(row.getByText("Done")).toBeTruthy();
  expect(row.getByText("46")).toBeTruthy();
  expect(screen.queryByRole("navigation", { name: "Pages" })).toBeNull();
});

test("turns pages", async () => {
  fakeServer({
    [FIRST]: { jobs: [finished({ filename: "new.pdf" })], total: 21 },
    "GET /api/v1/jobs?limit=20&offset=20": { jobs: [finished({ filename: "old.pdf" })], total: 21 },
  });
  render(<History />);
  await screen.findByText("new.pdf");
  await userEvent.click(screen.getByRole("button", { name: "Older" }));
  expect(await screen.findByText("old.pdf")).toBeTruthy();
  expect(screen.getByText("21–21 of 21")).toBeTruthy();
  expect(screen.getByRole<HTMLButtonElement>("button", { name: "Older" }).disabled).toBe(true);
});

test("deletes and asks again", async () => {
  vi.spyOn(window, "confirm").mockReturnValue(true);
  const answers: Record<string, unknown> = {
    [FIRST]: { jobs: [finished()], total: 1 },
    [`DELETE /api/v1/jobs/${job().id}`]: new Response(null, { status: 204 }),
  };
  fakeServer(answers);
  render(<History />);
  const remove = await screen.findByRole("button", { name: "Delete Le tour du monde.pdf" });
  answers[FIRST] = { jobs: [], total: 0 };
  await userEvent.click(remove);
  expect(await screen.findByText(/Nothing here yet/)).toBeTruthy();
});

test("says what went wrong", async () => {
  fakeServer({ [FIRST]: problem(503, "The database is away; try again soon.") });
  render(<History />);
  expect((await screen.findByRole("alert")).textContent).toContain("database is away");
});

test("the start page shows recent novels only when there are some", async () => {
  const fetch = fakeServer({ "GET /api/v1/jobs?limit=5&offset=0": { jobs: [], total: 0 } });
  const { container } = render(<Recent />);
  await waitFor(() => expect(fetch).toHaveBeenCalled());
  expect(container.innerHTML).toBe("");
});
