import Link from "next/link";

export default function NotFound() {
  return (
    <>
      <h1>There is no such page</h1>
      <p>
        <Link href="/">Upload a novel</Link> or look through the <Link href="/history">history</Link>.
      </p>
    </>
  );
}
