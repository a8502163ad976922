import type { Metadata } from "next";
import { History } from "@/components/History";

export const metadata: Metadata = { title: "History" };

export default function HistoryPage() {
  return (
    <>
      <h1>History</h1>
      <History />
    </>
  );
}
