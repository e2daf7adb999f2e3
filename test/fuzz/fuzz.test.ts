import t from 'tap'
import { fuzz } from './run.ts'

const requests = 20_000
const stops = 5
const seed = Number(process.env.FUZZ_SEED ?? 21)

t.test(`${requests} requests by the document, valid, nearly valid and hostile, and through ${stops} stops: none is a 500, hangs, is answered against its schema, or stores what was refused`, async t => {
  const { faults, answers, seconds, residentMb } = await fuzz(t, { requests, seed, stops })
  t.comment(`${JSON.stringify(answers)} in ${seconds} s, ${residentMb} MiB`)
  t.same(faults, [], `Again: npm run fuzz -- --requests ${requests} --seed ${seed} --stops ${stops}`)
  // A run in which all is refused, or nothing is, shows nothing.
  for (const status of ['200', '201', '400', '401', '403', '404', '409', '415']) t.ok((answers[status] ?? 0) > 20, `some are ${status}`)
})
