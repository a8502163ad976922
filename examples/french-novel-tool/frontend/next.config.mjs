/**
 * In production the proxy in front sends /api to the back end, and the rewrite below is never
 * reached. It serves `docker compose up` and `next dev`, where the browser talks to Next.js
 * alone. Next.js fixes it at build time, hence compose's name of the service as the default.
 */
const backend = process.env.BACKEND_URL ?? "http://backend:5000";

/** @type {import("next").NextConfig} */
const config = {
  output: "standalone",
  outputFileTracingRoot: import.meta.dirname,
  turbopack: { root: import.meta.dirname },
  poweredByHeader: false,
  // Compression is the proxy's business; here it would hold back server-sent events.
  compress: false,
  // No pictures, so no image optimiser and none of its native code.
  images: { unoptimized: true },
  outputFileTracingExcludes: { "**": ["node_modules/@img/**", "node_modules/sharp/**"] },
  async rewrites() {
    return [{ source: "/api/:path*", destination: `${backend}/api/:path*` }];
  },
  async headers() {
    return [
      {
        source: "/:path*",
        headers: [
          { key: "X-Content-Type-Options", value: "nosniff" },
          { key: "X-Frame-Options", value: "DENY" },
          { key: "Referrer-Policy", value: "same-origin" },
        ],
      },
    ];
  },
};

export default config;
