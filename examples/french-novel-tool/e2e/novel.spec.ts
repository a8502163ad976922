import { execFileSync } from "node:child_process";
import path from "node:path";
import { expect, test } from "@playwright/test";

const SAMPLE = path.join(import.meta.dirname, "..", "make_pdf.py");

test("a novel goes in, short sentences come out", async ({ page }, info) => {
  const pdf = info.outputPath("novel.pdf");
  execFileSync("python3", [SAMPLE, pdf]);

  await page.goto("/");
  await page.getByLabel("Novel as PDF").setInputFiles(pdf);
  await page.getByLabel("Words in a sentence").fill("12");
  await page.getByRole("button", { name: "Shorten the sentences" }).click();

  await expect(page).toHaveURL(/\/jobs\/[0-9a-f-]+$/);
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("novel.pdf");
  await expect(page.getByText("Done", { exact: true })).toBeVisible({ timeout: 60_000 });

  const job = page.url().split("/").pop();
  const answer = await page.request.get(`/api/v1/jobs/${job}/sentences?limit=500&only=rewritten`);
  const { sentences } = await answer.json();
  expect(sentences.length).toBeGreaterThan(0);
  for (const { sentences: parts } of sentences) {
    expect(parts.length).toBeGreaterThan(0);
  }
});

test("what is no PDF is refused in words", async ({ page }) => {
  await page.goto("/");
  const file = { name: "novel.txt", mimeType: "text/plain", buffer: Buffer.from("Il était une fois") };
  await page.getByLabel("Novel as PDF").setInputFiles(file);
  await expect(page.getByRole("alert").first()).toHaveText("Please choose a PDF.");
});

test("the history knows a novel that was read", async ({ page }) => {
  await page.goto("/history");
  await expect(page.getByRole("link", { name: "novel.pdf" }).first()).toBeVisible();
});
