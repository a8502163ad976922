import { render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test, vi } from "vitest";
import { UploadForm } from "@/components/UploadForm";
import { fakeServer, job, problem } from "./fakes";

const push = vi.fn();
vi.mock("next/navigation", () => ({ useRouter: () => ({ push }) }));

const OPTIONS = {
  modes: ["rules"],
  word_limit: { default: 20, min: 8, max: 100 },
  max_upload_bytes: 1000,
};
const PDF = new File(["%PDF-1.4"], "roman.pdf", { type: "application/pdf" });

beforeEach(() => push.mockReset());

const input = () => screen.getByLabelText("Novel as PDF");
const submit = () => userEvent.click(screen.getByRole("button", { name: /Shorten/ }));

test("sends the file and opens its page", async () => {
  const fetch = fakeServer({ "GET /api/v1/options": OPTIONS, "POST /api/v1/jobs": job() });
  render(<UploadForm />);
  await userEvent.upload(input(), PDF);
  expect(screen.getByText("roman.pdf")).toBeTruthy();
  await submit();
  await waitFor(() => expect(push).toHaveBeenCalledWith(`/jobs/${job().id}`));
  const sent = fetch.mock.calls.find(([path]) => path === "/api/v1/jobs")?.[1]?.body as FormData;
  expect(sent.get("word_limit")).toBe("20");
  expect(sent.get("mode")).toBe("rules");
  expect((sent.get("file") as File).name).toBe("roman.pdf");
});

test("shows what the server has against the file", async () => {
  fakeServer({
    "GET /api/v1/options": OPTIONS,
    "POST /api/v1/jobs": problem(415, "The file is not a PDF."),
  });
  render(<UploadForm />);
  await userEvent.upload(input(), PDF);
  await submit();
  expect((await screen.findByRole("alert")).textContent).toBe("The file is not a PDF.");
  expect(push).not.toHaveBeenCalled();
});

test("takes no other files and none that are too large", async () => {
  const fetch = fakeServer({ "GET /api/v1/options": OPTIONS });
  render(<UploadForm />);
  expect(await screen.findByText(/up to 1 kB/)).toBeTruthy();
  const user = userEvent.setup({ applyAccept: false });
  await user.upload(input(), new File(["x"], "roman.docx"));
  expect(screen.getByRole("alert").textContent).toBe("Please choose a PDF.");
  await user.upload(input(), new File(["x".repeat(2000)], "roman.pdf"));
  expect(screen.getByRole("alert").textContent).toBe("The file is larger than 1 kB.");
  await submit();
  expect(screen.getByRole("alert").textContent).toBe("Please choose a PDF first.");
  expect(fetch).toHaveBeenCalledTimes(1);
});

test("offers Gemini only where the server has a key", async () => {
  fakeServer({ "GET /api/v1/options": { ...OPTIONS, modes: ["rules", "gemini"] } });
  render(<UploadForm />);
  expect(screen.queryByRole("radio")).toBeNull();
  const gemini = await screen.findByRole<HTMLInputElement>("radio", { name: "Gemini" });
  await userEvent.click(gemini);
  expect(gemini.checked).toBe(true);
});

test("works with its defaults when the server does not say what it offers", async () => {
  fakeServer({
    "GET /api/v1/options": problem(503, "away"),
    "POST /api/v1/jobs": job(),
  });
  render(<UploadForm />);
  await userEvent.upload(input(), PDF);
  await submit();
  await waitFor(() => expect(push).toHaveBeenCalled());
});
