import { defineConfig, devices } from "@playwright/test";

/** Where the application answers. */
const BASE_URL = process.env.BASE_URL ?? "https://novels.localhost";

export default defineConfig({
  testDir: ".",
  // The worker of a small machine takes its time.
  timeout: 120_000,
  expect: { timeout: 15_000 },
  workers: 1,
  retries: 0,
  reporter: [["list"], ["html", { open: "never" }]],
  use: {
    ...devices["Desktop Chrome"],
    baseURL: BASE_URL,
    // Certificates of a machine's own authority, which the browser of a job of Havre knows and others do not.
    ignoreHTTPSErrors: !process.env.CI && new URL(BASE_URL).hostname.endsWith(".localhost"),
    trace: "retain-on-failure",
    // A browser that is there already, instead of Playwright's own.
    launchOptions: process.env.CHROMIUM
      ? { executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] }
      : {},
  },
});
