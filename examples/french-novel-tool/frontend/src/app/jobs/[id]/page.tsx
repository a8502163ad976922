import type { Metadata } from "next";
import { JobView } from "@/components/JobView";

export const metadata: Metadata = { title: "Novel" };

export default async function JobPage({ params }: { params: Promise<{ id: string }> }) {
  return <JobView id={(await params).id} />;
}
