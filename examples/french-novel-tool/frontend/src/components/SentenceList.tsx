"use client";

import { useEffect, useState } from "react";
import { getSentences, type Job, type Sentence } from "@/lib/api";
import { number } from "@/lib/format";
import styles from "./SentenceList.module.css";

const PAGE = 100;

type Only = "all" | "rewritten";

/** What was read beside what became of it. */
export function SentenceList({ job }: { job: Job }) {
  const [only, setOnly] = useState<Only>(job.sentences.rewritten > 0 ? "rewritten" : "all");
  return (
    <section aria-labelledby="sentences">
      <div className={styles.head}>
        <h2 id="sentences">Sentences</h2>
        <div className={styles.filter} role="group" aria-label="Show">
          {(["rewritten", "all"] as const).map((choice) => (
            <button
              key={choice}
              type="button"
              aria-pressed={only === choice}
              onClick={() => setOnly(choice)}
            >
              {choice === "all" ? "All" : "Rewritten"}
            </button>
          ))}
        </div>
      </div>
      <Pages key={only} id={job.id} only={only} />
    </section>
  );
}

function Pages({ id, only }: { id: string; only: Only }) {
  const [sentences, setSentences] = useState<Sentence[]>([]);
  const [total, setTotal] = useState<number | null>(null);
  const [wanted, setWanted] = useState(PAGE);
  const [error, setError] = useState<string | null>(null);

  useEffect(() => {
    const abort = new AbortController();
    const offset = wanted - PAGE;
    getSentences(id, { limit: PAGE, offset, only }, abort.signal).then(
      (page) => {
        setSentences((old) => [...old.slice(0, offset), ...page.sentences]);
        setTotal(page.total);
        setError(null);
      },
      (failure: unknown) => {
        if (abort.signal.aborted) return;
        setError(failure instanceof Error ? failure.message : "The sentences cannot be read.");
      },
    );
    return () => abort.abort();
  }, [id, only, wanted]);

  return (
    <>
      {error && (
        <p className="alert" role="alert">
          {error}
        </p>
      )}
      {total === 0 && <p className="muted">No sentence was longer than the limit.</p>}
      <ol className={styles.list}>
        {sentences.map((sentence) => (
          <li key={sentence.position} className="card">
            <Pair sentence={sentence} />
          </li>
        ))}
      </ol>
      {total !== null && sentences.length < total && (
        <p className={styles.more}>
          <button type="button" className="button" onClick={() => setWanted(sentences.length + PAGE)}>
            Show more ({number(total - sentences.length)} left)
          </button>
        </p>
      )}
    </>
  );
}

function Pair({ sentence }: { sentence: Sentence }) {
  if (sentence.method === "kept" || sentence.sentences === null) {
    return (
      <p className={styles.kept} lang="fr">
        {sentence.original}
      </p>
    );
  }
  return (
    <div className={styles.pair}>
      <p className={styles.original} lang="fr">
        {sentence.original}
      </p>
      <ol className={styles.parts} lang="fr" aria-label="Rewritten">
        {sentence.sentences.map((part, index) => (
          <li key={index}>{part}</li>
        ))}
      </ol>
    </div>
  );
}
