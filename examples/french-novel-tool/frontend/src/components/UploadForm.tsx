"use client";

import { useRouter } from "next/navigation";
import { useEffect, useState, type DragEvent, type FormEvent } from "react";
import { createJob, getOptions, type Mode, type Options } from "@/lib/api";
import { bytes } from "@/lib/format";
import styles from "./UploadForm.module.css";

/** Used until the server said what it offers. */
const DEFAULTS: Options = {
  modes: ["rules"],
  word_limit: { default: 20, min: 8, max: 100 },
  max_upload_bytes: 25 * 1024 * 1024,
};

const MODE_NAMES: Record<Mode, string> = { rules: "Grammar rules", gemini: "Gemini" };

export function UploadForm() {
  const router = useRouter();
  const [options, setOptions] = useState(DEFAULTS);
  const [file, setFile] = useState<File | null>(null);
  const [wordLimit, setWordLimit] = useState(DEFAULTS.word_limit.default);
  const [mode, setMode] = useState<Mode>("rules");
  const [dragging, setDragging] = useState(false);
  const [sending, setSending] = useState(false);
  const [error, setError] = useState<string | null>(null);

  useEffect(() => {
    const abort = new AbortController();
    // The defaults do when the server is silent; the upload itself will say what is wrong.
    getOptions(abort.signal).then(setOptions, () => undefined);
    return () => abort.abort();
  }, []);

  function choose(chosen: File | undefined) {
    if (!chosen) return;
    if (chosen.type !== "application/pdf" && !chosen.name.toLowerCase().endsWith(".pdf")) {
      setError("Please choose a PDF.");
    } else if (chosen.size > options.max_upload_bytes) {
      setError(`The file is larger than ${bytes(options.max_upload_bytes)}.`);
    } else {
      setError(null);
      setFile(chosen);
    }
  }

  function drop(event: DragEvent) {
    event.preventDefault();
    setDragging(false);
    choose(event.dataTransfer.files[0]);
  }

  async function submit(event: FormEvent) {
    event.preventDefault();
    if (!file) {
      setError("Please choose a PDF first.");
      return;
    }
    setSending(true);
    setError(null);
    try {
      const job = await createJob(file, wordLimit, mode);
      router.push(`/jobs/${job.id}`);
    } catch (failure) {
      setError(failure instanceof Error ? failure.message : "The upload failed.");
      setSending(false);
    }
  }

  return (
    <form className={`card ${styles.form}`} onSubmit={submit} aria-label="Upload a novel">
      <label
        className={styles.drop}
        data-dragging={dragging}
        onDragOver={(event) => {
          event.preventDefault();
          setDragging(true);
        }}
        onDragLeave={() => setDragging(false)}
        onDrop={drop}
      >
        <input
          type="file"
          accept="application/pdf,.pdf"
          aria-label="Novel as PDF"
          onChange={(event) => choose(event.target.files?.[0])}
        />
        {file ? (
          <>
            <strong>{file.name}</strong>
            <span className="muted">{bytes(file.size)}, click to choose another</span>
          </>
        ) : (
          <>
            <strong>Choose a PDF</strong>
            <span className="muted">or drop it here, up to {bytes(options.max_upload_bytes)}</span>
          </>
        )}
      </label>

      <div className={styles.field}>
        <label htmlFor="word-limit">
          Words in a sentence, at most <output htmlFor="word-limit">{wordLimit}</output>
        </label>
        <input
          id="word-limit"
          type="range"
          min={options.word_limit.min}
          max={Math.min(options.word_limit.max, 60)}
          value={wordLimit}
          onChange={(event) => setWordLimit(event.target.valueAsNumber)}
        />
      </div>

      {options.modes.length > 1 && (
        <fieldset className={styles.modes}>
          <legend>Rewrite by</legend>
          {options.modes.map((name) => (
            <label key={name}>
              <input
                type="radio"
                name="mode"
                checked={mode === name}
                onChange={() => setMode(name)}
              />
              {MODE_NAMES[name]}
            </label>
          ))}
        </fieldset>
      )}

      {error && (
        <p className="alert" role="alert">
          {error}
        </p>
      )}
      <button className="button primary" type="submit" disabled={sending}>
        {sending ? "Uploading…" : "Shorten the sentences"}
      </button>
    </form>
  );
}
