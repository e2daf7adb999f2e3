import t from 'tap'
import { fuzz } from './run.ts'

const requests = 20_000
const stops = 5
const seed = Number(process.env.FUZZ_SEED ?? 21)

t.test(`of ${requests} requests made from the OpenAPI document, through ${stops} stops, none gets a 500, hangs, breaks its schema, or stores what was refused`, async t => {
  const { faults, answers, seconds, residentMb } = await fuzz(t, { requests, seed, stops })
  t.comment(`${JSON.stringify(answers)} in ${seconds} s, ${residentMb} MiB`)
  t.same(faults, [], `Repeat it by: npm run fuzz -- --requests ${requests} --seed ${seed} --stops ${stops}`)
  // A run in which every request is refused, or none is, proves nothing.
  for (const status of ['200', '201', '400', '401', '403', '404', '409', '415']) t.ok((answers[status] ?? 0) > 20, `some are ${status}`)
})
