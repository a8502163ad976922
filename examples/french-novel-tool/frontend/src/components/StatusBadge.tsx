import type { Status } from "@/lib/api";
import styles from "./StatusBadge.module.css";

const NAMES: Record<Status, string> = {
  queued: "Queued",
  running: "Running",
  done: "Done",
  failed: "Failed",
};

export function StatusBadge({ status }: { status: Status }) {
  return (
    <span className={styles.badge} data-status={status}>
      {NAMES[status]}
    </span>
  );
}
