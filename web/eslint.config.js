import js from "@eslint/js";

export default [
  js.configs.recommended,
  {
    rules: {
      "no-undef": "off", // the type checker knows which globals there are
      "no-var": "error",
      "prefer-const": "error",
      eqeqeq: "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-throw-literal": "error",
      "no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "Build nodes: text from events must never become markup." },
        { property: "outerHTML", message: "Build nodes: text from events must never become markup." },
        { property: "insertAdjacentHTML", message: "Build nodes: text from events must never become markup." },
      ],
    },
  },
];
