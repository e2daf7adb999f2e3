import neostandard, { plugins } from 'neostandard'

/** What no rule of a plugin says. */
const ownRules = [
  {
    selector: ':matches(Program, ExportNamedDeclaration) > VariableDeclaration > VariableDeclarator > Identifier.id[name=/^(?!FST_ERR_)[A-Z][A-Z0-9_]+$/]',
    message: 'Write a constant in camelCase, with its unit last: startLimitMs. Only the codes of Fastify errors are in capitals.'
  },
  ...['Literal[value=', 'TemplateElement[value.raw='].map(text => ({
    selector: `${text}/^\\s*(select|insert into|delete from|update \\S+ set|(create|alter|drop) (table|database|schema|index|sequence|function|trigger|role)|begin;|commit;|rollback;) /]`,
    message: 'Write the keywords of SQL in capitals.'
  })),
  // Any statement, where it is surely SQL.
  ...['> Literal.arguments:first-child[value=', '> TemplateLiteral > TemplateElement:first-child[value.raw='].map(text => ({
    selector: `:matches(CallExpression[callee.property.name=/^(query|\\$(query|execute)RawUnsafe)$/], TaggedTemplateExpression[tag.property.name=/^\\$(query|execute)Raw$/]) ${text}/^\\s*[a-z]/]`,
    message: 'Write the keywords of SQL in capitals.'
  })),
  ...[
    'VariableDeclarator[id.name=/(timeout|interval|delay|duration|ttl|grace|pause|patience)$/i] > Literal[raw=/^[0-9_]+$/]',
    // DrainHookOptions and Balancer are options of fastify-drain, whose names are published. A name with _ is another library's.
    ':matches(TSPropertySignature, PropertyDefinition)[key.name=/^[a-z]*(timeout|interval|delay|grace|pause|patience)$/i]:not(TSInterfaceDeclaration[id.name=/^(DrainHookOptions|Balancer)$/] *) > TSTypeAnnotation > :matches(TSNumberKeyword, TSUnionType:has(> TSNumberKeyword))',
    ':function > Identifier[name=/(timeout|interval|delay|grace|pause|patience)$/i] > TSTypeAnnotation > TSNumberKeyword'
  ].map(selector => ({ selector, message: 'Name the unit of a duration last: timeoutMs.' }))
]

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
      // A line with a text may be longer, so that one finds the text by searching for it.
      '@stylistic/max-len': ['error', { code: 160, comments: 160, ignoreUrls: true, ignoreStrings: true, ignoreTemplateLiterals: true, ignoreRegExpLiterals: true }],
      // A type-only import says so: type stripping cannot guess.
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/no-explicit-any': 'error',
      'no-restricted-syntax': ['error', ...ownRules],
      // Says that nobody waits for this promise, on purpose.
      'no-void': ['error', { allowAsStatement: true }]
    }
  }
]
