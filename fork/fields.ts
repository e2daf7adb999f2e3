import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Field, FieldType } from './arguments.ts'
import { Edit } from './edit.ts'
import { capitalized } from './words.ts'

interface Forms {
  sql: string
  prisma: string
  typescript: string
  /** A schema of TypeBox. */
  schema: string
  /** Two values. */
  examples: readonly [string, string] | readonly [number, number] | readonly [boolean, boolean]
}

export const forms: Record<FieldType, Forms> = {
  text: { sql: 'text', prisma: 'String', typescript: 'string', schema: 'storableText({ maxLength: 255 })', examples: ['a', 'b'] },
  int: { sql: 'integer', prisma: 'Int', typescript: 'number', schema: 'Type.Integer({ minimum: -2_147_483_648, maximum: 2_147_483_647 })', examples: [3, 4] },
  bool: { sql: 'boolean', prisma: 'Boolean', typescript: 'boolean', schema: 'Type.Boolean()', examples: [true, false] }
}

/**
 * Gives an order the fields, everywhere: the table, the functions that write and show it, the types, the API and a test. In the
 * words of this service, as they are swapped afterwards. Nothing of the fork is deployed, so its first migrations are edited.
 */
export function addFields (root: string, fields: Field[]): void {
  if (fields.length === 0) return
  const each = (text: (field: Field, forms: Forms) => string): string => fields.map(field => text(field, forms[field.type])).join('')

  new Edit(root, 'prisma/migrations/20261123000000_orders/migration.sql')
    .after('    "reference" TEXT,\n', each(({ column }, { sql }) => `    "${column}" ${sql.toUpperCase()},\n`))
    .save()
  new Edit(root, 'prisma/migrations/20261129000100_payments/migration.sql')
    .after("'reference', placed.reference, ", each(({ name, column }) => `'${name}', placed."${column}", `))
    .save()
  const columns = each(({ column }) => `, "${column}"`)
  new Edit(root, 'prisma/migrations/20261129000300_price_changed/migration.sql')
    .after('  batch_references text[];\n', each(({ column }, { sql }) => `  batch_of_${column} ${sql}[];\n`))
    .after('SELECT * INTO batch_ids, batch_customers, batch_keys, batch_fingerprints, batch_currencies, batch_references', each(({ column }) => `, batch_of_${column}`))
    .after('"references" text[]', each(({ name }, { sql }) => `, "${name}" ${sql}[]`))
    .after("decode(b.fingerprint, 'hex') AS fingerprint, b.currency, b.reference", each(({ column }) => `, b."${column}"`))
    .after('FROM unnest(batch_ids, batch_customers, batch_keys, batch_fingerprints, batch_currencies, batch_references', each(({ column }) => `, batch_of_${column}`))
    .after('AS b(id, customer, key, fingerprint, currency, reference', columns)
    .after('INSERT INTO orders (id, customer, idempotency_key, fingerprint, currency, total, reference', columns)
    .after('least(asked.total, 9007199254740991), asked.reference', each(({ column }) => `, asked."${column}"`))
    .save()
  new Edit(root, 'prisma/schema.prisma')
    .after('  reference      String?\n', each(({ name, column }, { prisma }) => `  ${name.padEnd(14)} ${prisma}?${column === name ? '' : `${' '.repeat(Math.max(1, 11 - prisma.length))}@map("${column}")`}\n`))
    .save()

  const names = each(({ name }) => `, ${name}`)
  new Edit(root, 'orders/order.ts')
    .before('  /** 1 when placed; each transition adds 1. */\n  version: number\n  createdAt: Date\n', each(({ name }, { typescript }) => `  ${name}: ${typescript} | null\n`))
    .before('  /** The total that the customer was told, in minor units.', each(({ name }, { typescript }) => `  ${name}?: ${typescript} | null\n`))
    .replace('function fingerprintOf ({ currency, items, reference, expectedTotal }: OrderRequest)', `function fingerprintOf ({ currency, items, reference, expectedTotal${names} }: OrderRequest)`)
    .after('  if (expectedTotal !== undefined) asked.push(expectedTotal)\n', each(({ name }) => `  if (${name} != null) asked.push(['${name}', ${name}])\n`))
    .save()
  new Edit(root, 'orders/store.ts')
    .after('SELECT o.id, o.customer, o.status, o.currency, o.total, o.reference', each(({ name, column }) => `, o."${column}"${name === column ? '' : ` AS "${name}"`}`))
    .after('    reference: true,\n', each(({ name }) => `    ${name}: true,\n`))
    .after('    references: batch.map(({ reference }) => reference),\n', each(({ name }) => `    ${name}: batch.map(({ ${name} }) => ${name} ?? null),\n`))
    .after('    reference: order.reference,\n', each(({ name }) => `    ${name}: order.${name} ?? null,\n`))
    .save()
  new Edit(root, 'routes/orders.ts')
    .before('\nconst OrderSchema = Type.Object({', each(({ name }, { schema }) => `const ${capitalized(name)}Field = Type.Union([${schema}, Type.Null()])\n`))
    .after('  reference: nullableText(),\n', each(({ name }) => `  ${name}: ${capitalized(name)}Field,\n`))
    .before('  expectedTotal: Type.Optional(Type.Integer(', each(({ name }) => `  ${name}: Type.Optional(${capitalized(name)}Field),\n`))
    .replace('const { currency, items, reference = null, expectedTotal } = request.body', `const { currency, items, reference = null, expectedTotal${each(({ name }) => `, ${name} = null`)} } = request.body`)
    .after('idempotencyKeyOf(request.headers), currency, items, reference, expectedTotal', names)
    .save()
  if (existsSync(join(root, 'bench'))) {
    new Edit(root, 'bench/orders/contestants/ceiling.ts')
      .replace('async function place ({ customer, currency, items, reference }: OrderRequest)', `async function place ({ customer, currency, items, reference${names} }: OrderRequest)`)
      .after('      reference,\n', each(({ name }) => `      ${name}: ${name} ?? null,\n`))
      .save()
  }
  new Edit(root, 'test/orders/intake.property.test.ts')
    .after('items: [], total: 0n, reference,', each(({ name }) => ` ${name}: (first ?? order).${name} ?? null,`))
    .save()
  new Edit(root, 'test/routes/orders.test.ts')
    .after("    reference: 'table 7 🍺',\n", each(({ name }) => `    ${name}: null,\n`))
    .save()
  writeFileSync(join(root, 'test/routes/fields.test.ts'), testOf(fields))
}

function testOf (fields: Field[]): string {
  const [first] = fields
  if (first === undefined) return ''
  const values = (which: 0 | 1): string => fields.map(({ name, type }) => `${name}: ${JSON.stringify(forms[type].examples[which]).replaceAll('"', "'")}`).join(', ')
  const nulls = fields.map(({ name }) => `${name}: null`).join(', ')
  return `import t from 'tap'
import { startApp } from '../app.ts'

const { ask, token } = await startApp(t)
const pint = { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }
const given = { ${values(0)} }
const others = { ${values(1)} }

const place = async (fields: object, key: string) =>
  await ask<{ id: string }>('POST', '/orders', { token: token('alice'), body: { ...pint, ...fields }, headers: { 'idempotency-key': key } })

t.test('an order keeps its fields, and shows them wherever it is shown', async t => {
  const { status, body } = await place(given, 'with-fields')
  t.equal(status, 201)
  t.match(body, given)
  t.match(await ask('GET', \`/orders/\${body.id}\`, { token: token('alice') }), { status: 200, body: given })
  t.match(await ask('GET', '/orders', { token: token('alice') }), { status: 200, body: { orders: [given] } })
  t.match(await ask('POST', \`/orders/\${body.id}/pay\`, { token: token('alice') }), { status: 200, body: { status: 'paid', ...given } })
})

t.test('a field belongs to what was asked for: the same key with another value is refused', async t => {
  await place(given, 'twice')
  t.equal((await place(given, 'twice')).headers['idempotent-replayed'], 'true')
  t.equal((await place(others, 'twice')).status, 422)
  t.equal((await place({}, 'twice')).status, 422)
})

t.test('an order without the fields has them as null', async t => {
  t.match(await place({}, 'without'), { status: 201, body: { ${nulls} } })
})

t.test('a field of another type is refused, and nothing is stored', async t => {
  t.equal((await place({ ${first.name}: {} }, 'another-type')).status, 400)
  t.equal((await place({}, 'another-type')).headers['idempotent-replayed'], undefined)
})
`
}
