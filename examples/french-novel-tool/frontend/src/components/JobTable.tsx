import Link from "next/link";
import type { Job } from "@/lib/api";
import { dateTime, number } from "@/lib/format";
import { StatusBadge } from "./StatusBadge";
import styles from "./JobTable.module.css";

interface Props {
  jobs: Job[];
  /** Shows a button per row. */
  onDelete?: (job: Job) => void;
}

export function JobTable({ jobs, onDelete }: Props) {
  return (
    <div className={`card ${styles.wrap}`}>
      <table className={styles.table}>
        <thead>
          <tr>
            <th scope="col">Novel</th>
            <th scope="col">Status</th>
            <th scope="col" className={styles.number}>
              Sentences
            </th>
            <th scope="col" className={styles.number}>
              Rewritten
            </th>
            <th scope="col">Uploaded</th>
            {onDelete && (
              <th scope="col">
                <span className={styles.hidden}>Delete</span>
              </th>
            )}
          </tr>
        </thead>
        <tbody>
          {jobs.map((job) => (
            <tr key={job.id}>
              <td className={styles.name}>
                {/* The page is small; fetching every row's ahead would cost more than it saves. */}
                <Link href={`/jobs/${job.id}`} prefetch={false}>
                  {job.filename}
                </Link>
              </td>
              <td>
                <StatusBadge status={job.status} />
              </td>
              <td className={styles.number}>
                {job.sentences.total === null ? "–" : number(job.sentences.total)}
              </td>
              <td className={styles.number}>{number(job.sentences.rewritten)}</td>
              <td className={styles.date}>
                <time dateTime={job.created_at}>{dateTime(job.created_at)}</time>
              </td>
              {onDelete && (
                <td>
                  <button
                    type="button"
                    className={styles.delete}
                    aria-label={`Delete ${job.filename}`}
                    onClick={() => onDelete(job)}
                  >
                    Delete
                  </button>
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
