/** For the container's health check: this process answers. */
export const dynamic = "force-dynamic";

export function GET() {
  return new Response("ok\n", { headers: { "Cache-Control": "no-store" } });
}
