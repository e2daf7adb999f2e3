import { basename } from 'node:path'
import t from 'tap'
import { readArguments, usageOf, UsageError, type JudgeArguments, type TrialArguments } from '../arguments.ts'
import type { Home } from '../home.ts'

const home: Home = { command: 'npm run verify --', targetFile: '/repository/order-service.ts', controlNames: ['dropped'], proveControls: async () => true, lastCaught: async () => 'never' }

t.test('without arguments verify runs twenty seconds of term against the service of this repository', async t => {
  const { targetFile, directory, seed, ...rest } = read([])
  t.strictSame(rest, { scenario: 'term', balancer: 'haproxy-http', manager: 'harness', env: {}, duration: 20_000, rate: 200, clients: 64 })
  t.equal(basename(targetFile), 'order-service.ts')
  t.match(directory, /\/\.verify\/[\dT-]+-term$/)
  t.not(seed, read([]).seed, 'each run has another seed')
})

t.test('every faulty argument is reported at once, with the usage', async t => {
  const full = t.testdir({ full: { file: '' } })
  const args = ['--scenario', 'sigterm', '--duration=0.5', '--rate', '1.5', '--sede', '7', 'term', '--out', `${full}/full`, '--clients']
  t.throws(() => read(args), new UsageError([
    'There is no option --sede.',
    '"7" belongs to no option.',
    '"term" belongs to no option.',
    '--clients needs a value.',
    '--scenario is "sigterm"; it takes one of term, kill, rolling, database-crash, failover, brownout, disk-full, restore, clock, broker, payments, hostile, all, or two at once, as term+database-crash.',
    `--out is ${full}/full, which is not an empty folder.`,
    '--duration is "0.5"; it takes a whole number from 1 to 86400.',
    '--rate is "1.5"; it takes a whole number from 1 to 10000.'
  ], home))
  t.ok(new UsageError([], home).message.endsWith(usageOf(home)))
})

t.test('--balancer takes a known name, and only with a scenario that has a balancer', async t => {
  t.equal(read(['--scenario', 'rolling', '--balancer', 'nginx']).balancer, 'nginx')
  t.throws(() => read(['--scenario', 'rolling', '--balancer', 'traefik']), new UsageError(['--balancer is "traefik"; it takes one of haproxy-http, haproxy-tcp, nginx.'], home))
  t.throws(() => read(['--scenario', 'kill', '--balancer', 'nginx']), new UsageError(['--balancer goes with --scenario rolling or all: in kill there is none.'], home))
})

t.test('a failover manager must have a known name, and goes only with a failover', async t => {
  t.equal(read(['--scenario', 'kill+failover', '--manager', 'patroni']).manager, 'patroni')
  t.throws(() => read(['--scenario', 'failover', '--manager', 'stolon']), new UsageError(['--manager is "stolon"; it takes one of harness, patroni.'], home))
  t.throws(() => read(['--scenario', 'all', '--manager', 'patroni']), new UsageError(['--manager goes with --scenario failover: in all nothing is promoted by it.'], home))
})

t.test('--env gives the service settings, each as NAME=VALUE', async t => {
  t.strictSame(read(['--env', 'A=1', '--env', 'B=x=y', '--env', 'C=']).env, { A: '1', B: 'x=y', C: '' })
  t.throws(() => read(['--env', 'A']), new UsageError(['--env is "A"; it takes NAME=VALUE.'], home))
})

t.test('a trial takes no option for load, faults or judgement', async t => {
  const { directory, ...rest } = readArguments(['--try', '--target', '/x/shop.yaml', '--env', 'A=1'], home) as TrialArguments
  t.strictSame(rest, { trial: true, targetFile: '/x/shop.yaml', env: { A: '1' } })
  t.match(directory, /-try$/)
  t.throws(() => readArguments(['--try', '--rate', '5'], home), new UsageError(['--rate cannot go with --try: there is no load and no fault.'], home))
})

t.test('two scenarios at once must strike two different things', async t => {
  t.equal(read(['--scenario', 'term+database-crash']).scenario, 'term+database-crash')
  t.equal(read(['--scenario', 'failover+rolling', '--balancer', 'nginx']).balancer, 'nginx')
  t.throws(() => read(['--scenario', 'term+kill']), new UsageError(['--scenario is "term+kill"; both strike the service; two at once must strike two things, as term+database-crash do.'], home))
  for (const scenario of ['term+all', 'term+nothing', 'term+', 'term+failover+kill']) t.throws(() => read(['--scenario', scenario]), /it takes one of term, .* or two at once, as term\+database-crash/)
})

t.test('several scenarios run one after another, each of them alone or as a pair', async t => {
  t.equal(read(['--scenario', 'term,kill+database-crash']).scenario, 'term,kill+database-crash')
  t.throws(() => read(['--scenario', 'term,all']), /--scenario is "term,all"; all includes the others/)
  t.throws(() => read(['--scenario', 'term,nothing']), /--scenario is "term,nothing"; it takes one of/)
})

t.test('a load may run at the rate max, have another mix, and end after enough orders and faults', async t => {
  t.match(read(['--rate', 'max', '--mix', 'new=90', '--mix', 'list=0', '--orders', '1000', '--faults', '10']), { rate: 'max', mix: { new: 90, list: 0 }, enough: { orders: 1_000, faults: 10 } })
  t.throws(() => read(['--mix', 'old=1', '--orders', '5']), /--mix is "old=1"; it takes KIND=SHARE, of new, [^]*--orders and --faults go together/)
})

t.test('--judge judges the evidence of a run again, and does nothing else', async t => {
  t.equal((readArguments(['--judge', '/x/run'], home) as JudgeArguments).judge, '/x/run')
  t.throws(() => readArguments(['--judge', '/x/run', '--rate', '5'], home), /--judge goes with nothing else/)
})

t.test('a seed may be 0', async t => {
  t.equal(read(['--seed', '0']).seed, 0)
})

t.test('--help takes precedence over everything else', async t => {
  t.equal(readArguments(['--nonsense', '--help'], home), 'help')
})

function read (args: string[]) {
  const options = readArguments(args, home)
  if (options === 'help' || 'control' in options || 'trial' in options || 'judge' in options) throw new Error('The arguments ask for no run.')
  return options
}
