import neostandard, { plugins } from 'neostandard'

export default [
  ...neostandard({ ts: true, filesTs: ['**/*.mts'], ignores: ['**/dist/', '**/.cache/', 'prisma/generated/', 'contracts/*.d.ts', '.tap/', '.data/', 'plugins/drain/test/apps/*/src/'] }),
  {
    // What a browser has and the page uses.
    files: ['routes/ops/page/*.js'],
    languageOptions: { sourceType: 'script', globals: Object.fromEntries(['document', 'navigator', 'HTMLDialogElement', 'HTMLElement', 'HTMLFormElement', 'HTMLInputElement', 'HTMLTableCellElement', 'SVGElement'].map(name => [name, 'readonly'])) }
  },
  {
    files: ['**/*.{ts,mts}'],
    plugins: { '@typescript-eslint': plugins['typescript-eslint'].plugin, '@stylistic': plugins['@stylistic'] },
    rules: {
      '@stylistic/arrow-parens': ['error', 'as-needed'],
      // Only comments have a width. Code has none (999).
      '@stylistic/max-len': ['error', { code: 999, comments: 160, ignoreUrls: true }],
      // A type-only import says so: type stripping cannot guess.
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/no-explicit-any': 'error',
      // Says that nobody waits for this promise, on purpose.
      'no-void': ['error', { allowAsStatement: true }]
    }
  }
]
