import { Recent } from "@/components/Recent";
import { UploadForm } from "@/components/UploadForm";
import styles from "./page.module.css";

export default function Home() {
  return (
    <>
      <div className={styles.hero}>
        <div>
          <h1>Long French sentences, made short</h1>
          <p className={styles.lead}>
            Upload a novel as a PDF. Its sentences come back one by one, and those that run on
            for lines are cut where they can be: ready to read, learn or translate.
          </p>
          <figure className={styles.example} lang="fr">
            <p>Un seul domestique suffisait à le servir ; il déjeunait, il dînait au club…</p>
            <ol>
              <li>Un seul domestique suffisait à le servir.</li>
              <li>Il déjeunait, il dînait au club…</li>
            </ol>
          </figure>
        </div>
        <UploadForm />
      </div>
      <Recent />
    </>
  );
}
