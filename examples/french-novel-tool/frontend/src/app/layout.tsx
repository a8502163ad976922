import type { Metadata, Viewport } from "next";
import Link from "next/link";
import type { ReactNode } from "react";
import "./globals.css";
import styles from "./layout.module.css";

export const metadata: Metadata = {
  title: { default: "French Novel Tool", template: "%s · French Novel Tool" },
  description: "Turns the long sentences of a French novel into short ones.",
};

export const viewport: Viewport = {
  themeColor: [
    { media: "(prefers-color-scheme: light)", color: "#faf7f1" },
    { media: "(prefers-color-scheme: dark)", color: "#171512" },
  ],
};

export default function RootLayout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>
        <a className="skip" href="#main">
          Skip to the content
        </a>
        <header className={styles.header}>
          <Link href="/" className={styles.brand}>
            <span aria-hidden="true" className={styles.mark}>
              «&#8239;»
            </span>
            French Novel Tool
          </Link>
          <nav aria-label="Main">
            <Link href="/">Upload</Link>
            <Link href="/history">History</Link>
          </nav>
        </header>
        <main id="main" className={styles.main}>
          {children}
        </main>
        <footer className={styles.footer}>Long sentences in, short sentences out.</footer>
      </body>
    </html>
  );
}
