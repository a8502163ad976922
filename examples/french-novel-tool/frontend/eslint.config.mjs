import next from "@next/eslint-plugin-next";
import hooks from "eslint-plugin-react-hooks";
import { defineConfig, globalIgnores } from "eslint/config";
import typescript from "typescript-eslint";

export default defineConfig([
  globalIgnores([".next/", "next-env.d.ts"]),
  typescript.configs.recommended,
  hooks.configs.flat.recommended,
  { plugins: { "@next/next": next }, rules: next.configs["core-web-vitals"].rules },
]);
