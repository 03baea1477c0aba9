import { defineConfig } from "vite";

// The notebook widget: one module, with its styles in it, shipped inside the client's package.
export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  define: { "process.env.NODE_ENV": '"production"' },
  build: {
    outDir: "../../sdk/runstream/widgets/static",
    emptyOutDir: true,
    target: "es2022",
    minify: true,
    lib: { entry: "src/widget/main.tsx", formats: ["es"], fileName: () => "widget.js" },
  },
});
