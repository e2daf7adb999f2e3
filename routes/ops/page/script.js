'use strict'

/**
 * @typedef {import('../shapes.ts').Live} Live
 * @typedef {import('../shapes.ts').Fleet} Fleet
 * @typedef {import('../shapes.ts').FleetLife} FleetLife
 * @typedef {import('../shapes.ts').EarlierLife} EarlierLife
 * @typedef {import('../shapes.ts').Health} Health
 * @typedef {import('../shapes.ts').ListedDeadEvent} DeadEvent
 * @typedef {import('fastify-drain').DrainReport} Report
 * @typedef {{ at: number, value: number, state: string }} Sample
 * @typedef {'connecting' | 'live' | 'lost' | 'ended'} Contact
 * @typedef {string | Node} Content
 * @typedef {{ title: string, certain: boolean, commands: string[], further: string }} Loss
 */

const pollMs = 250
const fleetMs = 2_000
const deadEventsMs = 10_000
const windowMs = 60_000
const hourMs = 3_600_000
const states = ['serving', 'draining', 'closing', 'closed']
/** @type {Record<number, string>} */
const exitMeanings = {
  0: 'Clean: nothing was abandoned.',
  1: 'An uncaught error stopped it.',
  20: 'Something was abandoned at the deadline.',
  21: 'A hook failed or timed out; nothing was abandoned.',
  22: 'A second signal cut it short.'
}
/** @type {Record<string, string>} */
const endings = { normally: 'closed normally', idle: 'idle, ended', unused: 'never used, ended', incomplete: 'incomplete request, ended', stalled: 'answer not read, cut', upgraded: 'upgraded, ended', aborted: 'cut at the deadline' }
/** @type {Record<string, string>} */
const stateTones = { starting: 'calm', serving: 'ok', draining: 'warn', closing: 'blue', closed: 'calm' }

/** @type {Live | undefined} the last answer of the process that the page shows */
let shown
/** Whether its final report has arrived. */
let ended = false
let missed = 0
let lastHeard = 0
/** @type {Live | undefined} */
let successor
let listening = false
/** @type {Sample[]} */
let samples = []
/** @type {Fleet | undefined} */
let fleet
/** The operators' token, once somebody has entered it. The page stores it nowhere else. */
let token = ''

poll()
readEarlier()
readFleet()
readDeadEvents()
readMoney()
$('ask').onclick = ask
$('cancel').onclick = () => the('confirm', HTMLDialogElement).close()
the('form', HTMLFormElement).onsubmit = drain

async function poll () {
  try {
    hear(await get('/drain', { headers: authorization(), signal: AbortSignal.timeout(2_000) }))
  } catch {
    missed++
    showContact()
  }
  setTimeout(poll, missed > 4 ? 1_000 : pollMs)
}

/**
 * @param {string} path
 * @param {RequestInit} [request]
 * @returns {Promise<any>} as in the schema of the route
 */
async function get (path, request = {}) {
  const response = await fetch(path, request)
  const body = await response.json()
  if (!response.ok) throw new Error(body.detail ?? String(response.status))
  return body
}

/** @param {Live} answer */
function hear (answer) {
  if (shown !== undefined && identityOf(answer) !== identityOf(shown)) {
    successor = answer
    // So that somebody can read the end of a stop, it stays until they follow.
    if (isStopping(shown)) return showContact()
    return follow()
  }
  missed = 0
  lastHeard = Date.now()
  if (ended) return
  shown = answer
  if (!listening) awaitReport(answer)
  show(answer)
}

/**
 * A stop may be too fast for a poll, and the exit follows the report at once. So this request waits on the server for the report.
 *
 * @param {Live} of
 */
async function awaitReport (of) {
  listening = true
  try {
    const report = await get('/drain/report')
    if (shown === undefined || identityOf(shown) !== identityOf(of)) return
    shown = { ...shown, report }
    ended = true
    show(shown)
  } catch {
    // The polls find out whether the process has gone. If it has not, the next one asks again.
  }
  listening = false
}

function follow () {
  shown = successor
  successor = undefined
  ended = false
  listening = false
  missed = 0
  samples = []
  readEarlier()
  if (shown !== undefined) show(shown)
}

/** @param {Live} live */
function identityOf ({ process: { instance, pid, startedAt } }) {
  return `${instance} ${pid} ${startedAt}`
}

/** @param {Live} live */
function isStopping ({ report }) {
  return report.startedAt !== null
}

/** @param {Live} live */
function show (live) {
  const { process, report, readiness, publisher, intake, streams, database, mayDrain } = live
  document.body.dataset.state = report.state
  $('process').textContent = `${process.instance} · pid ${process.pid} · ${process.version} · Node ${process.node.slice(1)} · up since ${clock(process.startedAt)}`
  document.title = `${report.state} · Last Orders`
  showLosses()
  showTrack(live)
  showDeadline(report)
  showWait(live)
  showRates(live)
  showSenders(live)
  showFigures(report)
  showChart(report)
  showPending(report.requests)
  showTracked(report.tracked)
  showHooks(report.hooks)
  showConnections(report.connections, streams)
  $('readiness').replaceChildren(
    ...readiness.map(check => checkOf(check, isStopping(live))),
    el('li', publisher.ok ? 'ok' : 'warn', publisher.ok ? '✓ publisher' : `✗ publisher: ${publisher.reason}; events wait, orders continue`))
  fill('intake', [], [
    ['Orders waiting for a batch', number(intake.queued)],
    ['Batches under way', number(intake.batches)],
    ['Database connections', number(`${database.open - database.idle} of ${database.open} busy`)],
    ['Queries waiting for one', number(database.waiting)]
  ])
  $('ask').hidden = isStopping(live) || mayDrain === 'denied'
  $('how').hidden = isStopping(live) || mayDrain !== 'denied'
  $('how').textContent = 'This page can only watch. To start a stop, run curl -X POST on this port’s /drain on the machine itself, or set OPS_TOKEN.'
  showContact()
}

/**
 * A stop turns readiness off, which is no failure.
 *
 * @param {{ name: string, ok: boolean }} check
 * @param {boolean} stopping
 */
function checkOf ({ name, ok }, stopping) {
  if (ok) return el('li', 'ok', `✓ ${name}`)
  return name === 'drain' && stopping ? el('li', 'calm', '– drain: not ready, as it stops') : el('li', 'bad', `✗ ${name} failed`)
}

/** Shows what this process and those of the last hour lost, or may have lost. */
function showLosses () {
  const losses = [...shown === undefined ? [] : ownLosses(shown), ...(fleet?.lives ?? []).flatMap(life => lossesOf(life))]
    .toSorted((a, b) => Number(b.certain) - Number(a.certain))
  const stops = fleet?.lives.filter(({ finishedAt }) => finishedAt !== null).length
  const key = JSON.stringify([losses, stops])
  const card = $('losses')
  if (card.dataset.key === key) return
  card.dataset.key = key
  const lost = losses.some(({ certain }) => certain)
  card.className = `card ${lost ? 'failure' : losses.length > 0 ? 'doubt' : 'calm'}`
  const heard = stops === undefined ? '' : stops === 0 ? 'No instance stopped in the last hour.' : `${stops === 1 ? 'One stop' : `${stops} stops`} in the last hour.`
  const [title, text] = lost
    ? ['Something was lost', 'Requests that had begun did not finish, or their clients did not get the answer. Their log lines tell whose they were.']
    : losses.length > 0
      ? ['Perhaps something was lost', 'A process ended without finishing. The outcome of its requests in flight is unknown; clients settle it by sending the same key again.']
      : ['Nothing is lost', `No request and no work was abandoned. ${heard}`]
  put(card, el('strong', '', title), el('p', '', text), ...losses.map(lossCard))
}

/** @param {Loss} loss */
function lossCard ({ title, commands, further }) {
  const block = el('section', 'loss')
  block.append(el('p', '', title))
  for (const command of commands) {
    const line = el('div', 'command')
    const code = el('code', '', command)
    const button = el('button', 'small', 'Copy')
    button.dataset.focus = `copy ${command}`
    button.setAttribute('aria-label', `Copy: ${command}`)
    button.onclick = () => copy(code, button)
    line.append(code, button)
    block.append(line)
  }
  if (further !== '') block.append(el('p', 'empty', further))
  return block
}

/**
 * @param {Live} live
 * @returns {Loss[]}
 */
function ownLosses ({ process, report: { requests, tracked, startedAt } }) {
  if (startedAt === null) return []
  return loss('This process', process, requests.abandoned, requests.stalled, tracked.abandoned)
}

/**
 * @param {FleetLife} life
 * @returns {Loss[]}
 */
function lossesOf (life) {
  const name = `${life.instance} · ${life.pid}`
  if (life.life === 'gone') {
    const inFlight = life.inFlight ?? 0
    return [{ certain: false, title: `${name} ended without finishing${life.seenAt === null ? '' : `; its last heartbeat was at ${clock(life.seenAt)}`}, with ${inFlight} in flight.`, commands: [`${logsOf(life)} | tail -n 50`], further: '' }]
  }
  // This process's own report is newer.
  if (life.life === 'this' || life.requests === null) return []
  return loss(`${name}, stopped at ${clock(life.stoppingAt ?? life.startedAt)}`, life, life.requests.abandoned, life.requests.cut, life.abandonedWork)
}

/**
 * @param {string} name
 * @param {{ instance: string, pid: number }} process
 * @param {{ count: number, ids: string[] }} abandoned
 * @param {{ count: number, ids: string[] }} cut
 * @param {string[]} work
 * @returns {Loss[]}
 */
function loss (name, process, abandoned, cut, work) {
  const told = [
    ...abandoned.count > 0 ? [`${abandoned.count} ${plural('request', abandoned.count)} abandoned`] : [],
    ...cut.count > 0 ? [`${cut.count} ${plural('answer', cut.count)} cut, as the client did not read`] : [],
    ...work.length > 0 ? [`work abandoned: ${[...new Set(work)].join(', ')}`] : []
  ]
  if (told.length === 0) return []
  const ids = [...abandoned.ids, ...cut.ids].slice(0, 6)
  const more = abandoned.count + cut.count - ids.length
  return [{
    certain: true,
    title: `${name}: ${told.join('; ')}.`,
    commands: ids.map(id => `${logsOf(process)} | grep ${id}`),
    further: more > 0 ? `and ${more} more; the last line of its log has the ids` : ''
  }]
}

/** @param {{ instance: string, pid: number }} process */
function logsOf ({ instance, pid }) {
  return (shown?.process.logs ?? 'cat service.log').replace('{instance}', instance).replace('{pid}', String(pid))
}

/**
 * @param {HTMLElement} code
 * @param {HTMLElement} button
 */
async function copy (code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent ?? '')
    button.textContent = 'Copied'
  } catch {
    // Browsers allow the clipboard only over https and on this machine.
    document.getSelection()?.selectAllChildren(code)
    button.textContent = 'Selected'
  }
}

/** @param {Live} live */
function showTrack (live) {
  const { report, process } = live
  const { state, phases, elapsed } = report
  const abandoned = abandonedIn(report)
  const at = states.indexOf(state)
  for (const item of document.querySelectorAll('.track li')) {
    const own = item instanceof HTMLElement ? item.dataset.state ?? '' : ''
    const index = states.indexOf(own)
    item.classList.toggle('past', index < at)
    if (index === at) item.setAttribute('aria-current', 'step')
    else item.removeAttribute('aria-current')
    const when = item.querySelector('.when')
    if (when !== null) when.textContent = whenOf(own, index < at)
  }
  const closed = document.querySelector('.track [data-state="closed"] .what')
  if (closed !== null) closed.textContent = abandoned > 0 ? `${abandoned} abandoned` : 'Everyone is served'
  closed?.classList.toggle('bad', abandoned > 0)

  /**
   * @param {string} own
   * @param {boolean} past
   */
  function whenOf (own, past) {
    if (own === 'serving') return at === -1 ? '' : `for ${span((past && report.startedAt !== null ? Date.parse(report.startedAt) : Date.now()) - Date.parse(process.startedAt))}`
    const began = own === 'draining' ? phases.draining : own === 'closing' ? phases.closing : phases.closed
    if (began === null) return ''
    if (own === 'closed') return `after ${span(began)}`
    const end = [phases.closing, phases.closed].find(time => time !== null && time > began) ?? (past ? began : elapsed)
    return `at ${span(began)}, for ${span(Math.max(0, end - began))}${own === 'closing' && phases.aborted !== null ? `; deadline at ${span(phases.aborted)}` : ''}`
  }
}

/** @param {Report} report */
function showDeadline (report) {
  const { remaining, deadline, state } = report
  const left = remaining ?? deadline
  const bar = $('bar')
  if (bar.firstElementChild instanceof HTMLElement) bar.firstElementChild.style.width = `${100 * left / deadline}%`
  bar.setAttribute('aria-valuemax', String(deadline))
  bar.setAttribute('aria-valuenow', String(left))
  bar.setAttribute('aria-valuetext', `${span(left)} of ${span(deadline)}`)
  $('remaining').textContent = remaining === null ? `${span(deadline)} when it comes` : state === 'closed' ? `${span(left)} of ${span(deadline)} to spare` : `${span(left)} of ${span(deadline)} remain`
  say($('headline'), headlineOf(report))
}

/** @param {Pick<Report, 'requests' | 'tracked'>} report */
function abandonedIn ({ requests, tracked }) {
  return requests.abandoned.count + tracked.abandoned.length
}

/**
 * Without changing numbers, because a screen reader reads it out at each change.
 *
 * @param {Report} report
 */
function headlineOf (report) {
  const { state, reason, error, requests } = report
  const why = `${reason}${error === undefined ? '' : `: ${error}`}`
  switch (state) {
    case 'starting': return 'Starting.'
    case 'serving': return 'Open. No stop is under way.'
    case 'draining': return `Last orders (${why}). Balancers see that the process leaves. It still serves the requests that come.`
    case 'closing': return `The door is shut (${why}). The process finishes the requests that it has begun.`
    case 'closed': return `Stopped (${why}): ${requests.completed.count} finished, ${requests.refused.count} refused, ${abandonedIn(report)} abandoned.`
  }
}

/** @param {Live} live */
function showWait (live) {
  const { report, stop: { waiting, lameDuck } } = live
  const text = waiting === null
    ? report.state === 'serving' ? `A stop would accept requests for at least ${span(lameDuck.minMs)}, until none has come for ${span(lameDuck.quietMs)}, and for at most ${span(lameDuck.maxMs)}.` : ''
    : `${holderOf(live, waiting)} ${waiting.for === 'min' || waiting.for === 'quiet' ? 'Accepts for' : 'At most'} ${span(waiting.atMost)}${waiting.for === 'min' || waiting.for === 'quiet' ? ' more at most.' : ' more.'}`
  $('wait').textContent = text
  $('wait').hidden = text === ''
  for (const own of ['min', 'quiet', 'max']) $(`duck-${own}`).className = waiting?.for === own ? 'tag warn' : 'tag faint'
  $('duck-min').textContent = `min ${span(lameDuck.minMs)}`
  $('duck-quiet').textContent = `quiet ${span(lameDuck.quietMs)}`
  $('duck-max').textContent = `max ${span(lameDuck.maxMs)}`
}

/**
 * @param {Live} live
 * @param {NonNullable<Live['stop']['waiting']>} waiting
 */
function holderOf ({ report, stop: { lameDuck } }, { for: what, left }) {
  const running = report.hooks.filter(({ outcome, name }) => outcome === 'running' && name !== 'app.close').map(({ name }) => name)
  const oldest = report.requests.pending.toSorted((a, b) => b.age - a.age)[0]
  switch (what) {
    case 'min': return `Waits for min: ${span(left ?? 0)} more, so that balancers notice.`
    case 'quiet': return `Waits for quiet: requests still come. Closes ${span(lameDuck.quietMs)} after the last one.`
    case 'max': return 'Requests still come. Then max ends the wait, and some may be refused.'
    case 'hooks': return `Waits for ${running.length === 0 ? 'hooks' : `the ${plural('hook', running.length)} ${running.join(', ')}`}.`
    case 'requests': return `Waits for ${report.requests.inFlight} ${plural('request', report.requests.inFlight)}${oldest === undefined ? '' : `, the oldest ${oldest.method} ${oldest.route} since ${span(oldest.age)}`}.`
    case 'work': return `Waits for tracked work: ${[...new Set(report.tracked.pending.map(({ label }) => label))].join(', ')}.`
    case 'resources': return 'Closes the database and the rest.'
  }
}

/** @param {Live} live */
function showRates (live) {
  const { lastMinute: { requestsPerSecond, errorShare }, stop: { arrivals } } = live
  const rates = [
    ['requests a second, last minute', rate(requestsPerSecond), ''],
    ['errors, last minute', `${(100 * errorShare).toFixed(errorShare > 0 && errorShare < 0.1 ? 2 : 0)} %`, errorShare < 0.01 ? '' : isStopping(live) ? 'warn' : 'bad']
  ]
  if (isStopping(live)) {
    rates.push(
      ['arrivals a second', rate(arrivals.perSecond), ''],
      ['since the last arrival', arrivals.lastAge === null ? 'none came' : span(arrivals.lastAge), ''])
  }
  figures('rates', rates)
}

/** @param {Live} live */
function showSenders (live) {
  const { senders, requests } = live.stop.arrivals
  $('senders-part').hidden = !isStopping(live)
  fill('senders', ['From', 'User agent', 'Last request', ['Requests', 'number'], ['Last', 'number']], senders.map(({ peer, userAgent, method, route, requests, age }) => [
    cell('mono', peer),
    cell('wide', userAgent ?? 'none'),
    cell('mono', `${method} ${route}`),
    number(requests),
    number(`${span(age)} ago`)
  ]), requests === 0 ? 'Nothing: only probes have come since the stop began.' : 'Only this machine, or a request with OPS_TOKEN, may see the senders.')
  if (senders.length > 0) $('senders').append(el('p', 'empty', 'A balancer in this list has not checked readiness yet, or still uses its last result.'))
}

/** @param {Report} report */
function showFigures (report) {
  const { requests, tracked, connections, phases } = report
  const handlers = requests.pending.filter(({ phase }) => phase === 'handler').length
  const abandoned = abandonedIn(report)
  const stopping = phases.draining !== null
  figures('figures', [
    ['in flight', requests.inFlight],
    [requests.inFlight > requests.pending.length ? 'handlers, of the first 100' : 'handlers running', handlers],
    ['tracked work', tracked.pending.length],
    ['connections', connections.open],
    ['finished', stopping ? requests.completed.count : '–'],
    ['not read, cut', stopping ? requests.stalled.count : '–'],
    ['refused', stopping ? requests.refused.count : '–'],
    ['not started', stopping ? requests.unstarted.count : '–'],
    ['abandoned', stopping ? abandoned : '–', abandoned > 0 ? 'bad' : '']
  ])
}

/**
 * @param {string} id
 * @param {Array<Array<string | number>>} rows label, value, tone
 */
function figures (id, rows) {
  $(id).replaceChildren(...rows.map(([label, value, tone = '']) => {
    const item = el('div', String(tone) || (value === 0 || value === '–' ? 'calm' : ''))
    item.append(el('dt', '', String(label)), el('dd', '', String(value)))
    return item
  }))
}

/** @param {Report} report */
function showChart ({ state, requests: { inFlight } }) {
  const now = Date.now()
  samples.push({ at: now, value: inFlight, state })
  // Keeps one sample from before the window, so that the curve begins at its edge.
  while ((samples[1]?.at ?? now) < now - windowMs) samples.shift()
  const top = Math.max(4, ...samples.map(({ value }) => value))
  /** @param {number} at */
  const x = at => 600 * (1 - (now - at) / windowMs)
  const points = samples.map(({ at, value }) => `${x(at).toFixed(1)} ${(100 - 92 * value / top).toFixed(1)}`)
  the('curve', SVGElement).setAttribute('d', `M${points.join('L')}`)
  the('area', SVGElement).setAttribute('d', `M${points.join('L')}V100H${x(samples[0]?.at ?? now).toFixed(1)}Z`)
  the('marks', SVGElement).setAttribute('d', samples.filter((point, index) => index > 0 && point.state !== samples[index - 1]?.state).map(({ at }) => `M${x(at).toFixed(1)} 0V100`).join(''))
  $('peak').textContent = `now ${inFlight}, most ${Math.max(...samples.map(({ value }) => value))}`
}

/** @param {Report['requests']} requests */
function showPending ({ pending, inFlight }) {
  const oldest = pending.toSorted((a, b) => b.age - a.age).slice(0, 6)
  const where = { waiting: 'not begun', handler: 'in a hook or its handler', response: 'answer on its way' }
  fill('pending', ['Route', 'Where', ['Age', 'number']], oldest.map(({ method, route, phase, clientGone, age }) => [
    cell('wide mono', `${method} ${route}`),
    clientGone ? el('span', 'tag warn', `${phase}, client gone`) : where[phase],
    number(span(age))
  ]), 'None in flight.')
  if (inFlight > oldest.length) $('pending').append(el('p', 'empty', `and ${inFlight - oldest.length} more, younger`))
}

/** @param {Report['tracked']} tracked */
function showTracked ({ pending, settled, failed, abandoned }) {
  const labels = [...new Set(pending.map(({ label }) => label))]
  /** @type {Content[][]} */
  const rows = labels.map(label => {
    const ages = pending.filter(work => work.label === label).map(({ age }) => age)
    return [label, el('span', 'tag blue', ages.length === 1 ? 'running' : `${ages.length} running`), number(span(Math.max(...ages)))]
  })
  for (const { label, error } of failed) rows.push([label, el('span', 'tag bad', 'failed'), error])
  for (const label of abandoned) rows.push([label, el('span', 'tag bad', 'abandoned'), ''])
  fill('tracked', ['Work', '', ['Oldest', 'number']], rows, settled > 0 ? `None left; ${settled} finished since the stop began.` : 'None.')
}

/** @param {Report['hooks']} hooks */
function showHooks (hooks) {
  const tones = { running: 'blue', done: 'ok', failed: 'bad', 'timed-out': 'bad' }
  fill('hooks', ['Hook', 'Phase', '', ['Time', 'number']], hooks.slice(-12).map(({ name, phase, outcome, duration, error }) => [
    error === undefined ? name : `${name}: ${error}`,
    phase,
    el('span', `tag ${tones[outcome]}`, outcome),
    number(span(duration))
  ]), 'They run when a stop begins.')
}

/**
 * @param {Report['connections']} connections
 * @param {number} streams
 */
function showConnections ({ open, closed }, streams) {
  const ends = Object.entries(closed).filter(([, count]) => count > 0)
  fill('connections', [], [
    ['Open', number(open)],
    ['Event streams', number(streams)],
    ...ends.map(([how, count]) => [endings[how] ?? how, number(count)])
  ])
}

async function readFleet () {
  try {
    fleet = await get('/fleet', { signal: AbortSignal.timeout(2_000) })
    $('fleet-fault').hidden = true
  } catch (error) {
    // The database closes in a stop, so the last answer stays.
    $('fleet-fault').hidden = fleet !== undefined && shown !== undefined && isStopping(shown)
    $('fleet-fault').textContent = `The fleet could not be read: ${messageOf(error)}`
  }
  if (fleet !== undefined) {
    showFleet(fleet)
    showLives(fleet)
    showLosses()
  }
  setTimeout(readFleet, fleetMs)
}

/** @param {FleetLife} life */
function isLiving ({ life }) {
  return life === 'this' || life === 'living' || life === 'unknown'
}

/** @param {Fleet} fleet */
function showFleet ({ lives }) {
  const order = [...lives.filter(isLiving), ...lives.filter(life => !isLiving(life))].slice(0, 16)
  fill('fleet', ['Instance', 'Version', 'State', ['In flight', 'number'], ['Heartbeat', 'number'], ['Started', 'number'], ['Left', 'number']], order.map(life => {
    const { version, inFlight, heartbeatAgeMs, startedAt, finishedAt } = life
    const own = life.life === 'this' && shown !== undefined && !ended ? shown.report : undefined
    return [
      nameOf(life),
      version ?? '–',
      stateOf(life),
      number(own?.requests.inFlight ?? (isLiving(life) ? inFlight ?? '–' : '–')),
      number(own !== undefined ? 'live' : heartbeatAgeMs === null || !isLiving(life) ? '–' : `${span(heartbeatAgeMs)} ago`),
      number(clock(startedAt)),
      number(finishedAt === null ? '–' : clock(finishedAt))
    ]
  }), 'No instance has written a heartbeat yet.')
  if (lives.length > order.length) $('fleet').append(el('p', 'empty', `and ${lives.length - order.length} more that have left`))
}

/** @param {FleetLife} life */
function nameOf ({ instance, pid, life, opsUrl }) {
  const name = `${instance} · ${pid}`
  if (life === 'this') return el('strong', '', `${name} (this)`)
  // The URL comes from the database, so only http and https become a link.
  if (opsUrl === null || !/^https?:\/\//.test(opsUrl) || life === 'finished' || life === 'gone') return name
  const link = document.createElement('a')
  link.href = opsUrl
  link.textContent = name
  link.dataset.focus = `life ${name}`
  return link
}

/** @param {FleetLife} life */
function stateOf ({ life, state, exitCode }) {
  switch (life) {
    case 'finished': return el('span', `tag ${exitCode === 0 ? 'calm' : 'bad'}`, exitCode === 0 ? 'left, clean' : `left, exit code ${exitCode}`)
    case 'gone': return el('span', 'tag bad', 'gone, never finished')
    case 'unknown': return el('span', 'tag warn', 'no heartbeat')
    default: {
      const now = life === 'this' && shown !== undefined ? shown.report.state : state ?? 'serving'
      return el('span', `tag ${stateTones[now] ?? 'calm'}`, now)
    }
  }
}

/** @param {Fleet} fleet */
function showLives ({ now: told, lives }) {
  const now = Date.parse(told)
  const rows = lives.slice(0, 14).toReversed()
  const from = Math.max(now - hourMs, Math.min(now - 60_000, ...rows.map(({ startedAt }) => Date.parse(startedAt))))
  const versions = [...new Set(rows.map(({ version }) => version ?? 'unknown'))]
  /** @param {number} time */
  const share = time => 100 * Math.min(1, Math.max(0, (time - from) / (now - from)))

  const chart = el('div', 'lives')
  for (const life of rows) {
    const version = life.version ?? 'unknown'
    const parts = partsOf(life, now)
    const label = el('div', 'label', `${life.instance} · ${life.pid}`)
    const bar = el('div', 'bar-of')
    bar.setAttribute('role', 'img')
    bar.setAttribute('aria-label', `${life.instance} ${life.pid}, version ${version}: ${parts.map(({ phase, from, to }) => `${phase} for ${span(to - from)}`).join(', ')}; ${endOf(life)}`)
    for (const { phase, from, to } of parts) {
      const part = el('span', `part ${phase}`)
      part.style.left = `${share(from)}%`
      part.style.width = `${Math.max(0, share(to) - share(from))}%`
      part.title = `${phase} for ${span(to - from)}, from ${clock(from)}`
      bar.append(part)
    }
    const [first] = parts
    const last = parts.at(-1)
    if (first !== undefined && last !== undefined) {
      const stripe = el('span', `stripe v${versions.indexOf(version) % 4}`)
      stripe.style.left = `${share(first.from)}%`
      stripe.style.width = `${share(last.to) - share(first.from)}%`
      bar.append(stripe)
    }
    if (!isLiving(life) && last !== undefined) {
      const bad = life.life === 'gone' || life.exitCode !== 0
      const end = el('span', `end ${bad ? 'bad' : 'calm'}`, bad ? '✕' : '•')
      end.style.left = `${share(last.to)}%`
      end.title = endOf(life)
      bar.append(end)
    }
    chart.append(label, bar)
  }
  const axis = el('div', 'axis')
  for (let tick = 0; tick <= 4; tick++) {
    const mark = el('span', '', clock(from + (now - from) * tick / 4))
    mark.style.left = `${25 * tick}%`
    axis.append(mark)
  }
  chart.append(el('div', 'label'), axis)

  const legend = el('p', 'legend')
  for (const phase of ['serving', 'draining', 'closing']) legend.append(el('span', `swatch ${phase}`), phase)
  for (const [index, version] of versions.entries()) legend.append(el('span', `swatch v${index % 4}`), version)
  $('lives').replaceChildren(chart, legend)
  if (lives.length > rows.length) $('lives').append(el('p', 'empty', `and ${lives.length - rows.length} before these`))
}

/**
 * @param {FleetLife} life
 * @param {number} now
 */
function partsOf (life, now) {
  const { startedAt, stoppingAt, seenAt, finishedAt } = life
  const phases = life.life === 'this' && shown !== undefined ? shown.report.phases : life.phases
  const end = finishedAt !== null ? Date.parse(finishedAt) : life.life === 'gone' ? Date.parse(seenAt ?? stoppingAt ?? startedAt) : now
  const stopping = stoppingAt === null ? end : Date.parse(stoppingAt)
  const closing = phases?.closing == null ? end : Math.min(end, stopping + phases.closing - (phases.draining ?? 0))
  return [
    { phase: 'serving', from: Date.parse(startedAt), to: stopping },
    { phase: 'draining', from: stopping, to: closing },
    { phase: 'closing', from: closing, to: end }
  ].filter(({ from, to }) => to > from)
}

/** @param {FleetLife} life */
function endOf ({ life, exitCode }) {
  switch (life) {
    case 'finished': return exitCode === 0 ? 'left, clean' : `left with exit code ${exitCode}`
    case 'gone': return 'ended without finishing'
    default: return 'not ended'
  }
}

async function readDeadEvents () {
  const mayAsk = shown?.mayDrain === 'granted' || (shown?.mayDrain === 'token-needed' && token !== '')
  if (shown !== undefined && !mayAsk) {
    const line = el('p', 'empty', shown.mayDrain === 'denied' ? 'They name customers, so only this machine, or a request with OPS_TOKEN, may see them. ' : 'They name customers, so they need the token. ')
    if (shown.mayDrain === 'token-needed') {
      const button = el('button', 'small', 'Enter the token…')
      button.dataset.focus = 'dead-token'
      button.onclick = () => askFor('The operators’ token', 'This page keeps it until you close the page.', 'Show dead events', async () => await listDeadEvents())
      line.append(button)
    }
    put($('dead'), line)
  } else if (mayAsk) {
    try {
      await listDeadEvents()
    } catch (error) {
      // The database closes in a stop, so the last answer stays.
      if (shown === undefined || !isStopping(shown)) put($('dead'), el('p', 'empty', `The dead events could not be read: ${messageOf(error)}`))
    }
  }
  setTimeout(readDeadEvents, shown === undefined ? 500 : deadEventsMs)
}

/** Shows what waits for the payment gateway's answer. If the health cannot be read, the last figures stay. */
async function readMoney () {
  try {
    // The body is complete also with 503, the status if a layer is down.
    /** @type {Health} */
    const { business } = await (await fetch('/health', { signal: AbortSignal.timeout(5_000) })).json()
    const { openPayments, oldestUnknownPaymentS } = business
    fill('money', [], [
      ['Payments and refunds that wait for the gateway', number(openPayments ?? 'not known')],
      ['Unknown for', number(oldestUnknownPaymentS === null ? 'not known' : oldestUnknownPaymentS === 0 ? 'none is' : span(1_000 * oldestUnknownPaymentS))]
    ])
  } catch {}
  setTimeout(readMoney, deadEventsMs)
}

async function listDeadEvents () {
  /** @type {{ events: DeadEvent[], next: string | null }} */
  const { events, next } = await get('/events/dead?limit=10', { headers: authorization(), signal: AbortSignal.timeout(5_000) })
  fill('dead', ['Event', 'Reason', ['Attempts', 'number'], ['Dead since', 'number'], ['Behind it', 'number'], ''], events.map(event => {
    const { orderId, version, type, reason, attempts, deadAt, waiting } = event
    const name = el('span', '', `${type} `)
    name.append(el('code', '', `${orderId} / ${version}`))
    const button = el('button', 'small', 'Retry')
    button.dataset.focus = `retry ${orderId} ${version}`
    button.setAttribute('aria-label', `Retry the event ${type}, ${version} of order ${orderId}`)
    button.onclick = () => retry(event, button)
    return [name, cell('wide', reason ?? 'none was given'), number(attempts), number(date(deadAt)), number(waiting), button]
  }), 'None. The relay gives up an event only after the publisher has refused it for long.')
  if (next !== null) $('dead').append(el('p', 'empty', 'and more: npm run events -- list'))
}

/**
 * @param {DeadEvent} event
 * @param {HTMLButtonElement} button
 */
async function retry ({ orderId, version }, button) {
  button.disabled = true
  try {
    const { state } = await get(`/events/dead/${orderId}/${version}/revive`, { method: 'POST', headers: authorization() })
    say($('dead-said'), `Event ${version} of order ${orderId} is ${state}: the relay publishes it next, and the events behind it follow.`)
    await listDeadEvents()
  } catch (error) {
    say($('dead-said'), `The event was not retried: ${messageOf(error)}`)
    button.disabled = false
  }
}

async function readEarlier () {
  try {
    /** @type {{ reports: EarlierLife[] }} */
    const { reports } = await get('/reports?limit=9')
    const earlier = reports.filter(({ life }) => life !== 'this' && life !== 'living').slice(0, 8)
    fill('earlier', ['Started', 'Instance', 'Reason', ['Took', 'number'], ['Finished', 'number'], ['Refused', 'number'], ['Abandoned', 'number'], 'End'], earlier.map(({ startedAt, stoppingAt, finishedAt, instance, pid, reason, exitCode, life, report: written }) => {
      const report = /** @type {Partial<Report> | null} */ (written)
      const requests = report?.requests
      const abandoned = requests === undefined ? undefined : requests.abandoned.count + (report?.tracked?.abandoned.length ?? 0)
      return [
        date(startedAt),
        `${instance} · ${pid}`,
        reason ?? '–',
        number(stoppingAt === null || finishedAt === null ? '–' : span(Date.parse(finishedAt) - Date.parse(stoppingAt))),
        number(requests?.completed.count ?? '–'),
        number(requests?.refused.count ?? '–'),
        cell((abandoned ?? 0) > 0 ? 'number bad' : 'number', abandoned ?? '–'),
        endTag(life, exitCode, stoppingAt)
      ]
    }), 'None yet.')
  } catch (error) {
    $('earlier').replaceChildren(el('p', 'empty', `The earlier stops could not be read: ${messageOf(error)}`))
  }
}

/**
 * @param {EarlierLife['life']} life
 * @param {number | null} exitCode
 * @param {string | null} stoppingAt
 */
function endTag (life, exitCode, stoppingAt) {
  const stopping = stoppingAt === null ? '' : ', in mid-stop'
  switch (life) {
    case 'finished': return el('span', `tag ${exitCode === 0 ? 'ok' : 'bad'}`, `exit code ${exitCode}`)
    case 'gone': return el('span', 'tag bad', `killed${stopping}: never finished`)
    default: return el('span', 'tag warn', `not finished${stopping}; may still run`)
  }
}

function showContact () {
  const gone = missed > (ended ? 0 : 1) || successor !== undefined
  /** @type {Contact} */
  const contact = shown === undefined ? 'connecting' : !gone ? 'live' : ended ? 'ended' : 'lost'
  document.body.dataset.contact = contact
  say($('contact'), { connecting: missed > 1 ? 'No answer yet' : 'Connecting', live: 'Live', lost: 'Lost contact', ended: 'The process has ended' }[contact])
  if (contact !== 'live') $('ask').hidden = true

  if (contact === 'ended' && shown !== undefined) {
    const { exitCode, elapsed } = shown.report
    notice(exitCode === 0 ? 'success' : 'failure', `The process has ended with exit code ${exitCode}`, `${exitMeanings[exitCode ?? -1] ?? ''} The stop took ${span(elapsed)}. Below is its final report.`)
  } else if (contact === 'lost' && shown !== undefined) {
    notice('failure', isStopping(shown) ? 'Lost contact in mid-stop' : 'Lost contact', isStopping(shown)
      ? `No answer since ${clock(lastHeard)}. Most likely the process has ended. Its final report did not arrive here, so its exit code is not known. Below is its last answer.`
      : `No answer since ${clock(lastHeard)}, and no stop was under way: the process was killed, or the connection to it is broken. Below is its last answer. The page asks again every second.`)
  } else $('notice').hidden = true
}

/**
 * @param {string} tone
 * @param {string} title
 * @param {string} text
 */
function notice (tone, title, text) {
  const next = successor === undefined ? '' : `Another process answers now, pid ${successor.process.pid}.`
  const key = `${title}${text}${next}`
  $('notice').hidden = false
  if ($('notice').dataset.key === key) return
  $('notice').dataset.key = key
  $('notice').className = `card ${tone}`
  $('notice').replaceChildren(el('strong', '', title), el('p', '', `${text} ${next}`))
  if (next !== '') {
    const button = el('button', '', 'Show that one')
    button.onclick = follow
    $('notice').append(button)
  }
}

/** @type {() => Promise<void>} what runs once the dialog is confirmed */
let confirmed = async () => {}

function ask () {
  if (shown === undefined) return
  const { process, report } = shown
  askFor('Call last orders?', `Process ${process.pid} on ${process.instance} leaves the balancer, finishes what it has begun (${report.requests.inFlight} in flight now), closes and exits within ${span(report.deadline)}. You cannot undo this.`, 'Drain and exit', async () => {
    hear(await get('/drain', { method: 'POST', headers: authorization() }))
  })
}

/**
 * @param {string} title
 * @param {string} text
 * @param {string} verb
 * @param {() => Promise<void>} then
 */
function askFor (title, text, verb, then) {
  $('confirm-title').textContent = title
  $('confirm-text').textContent = text
  $('confirm-verb').textContent = verb
  $('token-label').hidden = shown?.mayDrain !== 'token-needed'
  the('token', HTMLInputElement).value = token
  $('refusal').textContent = ''
  confirmed = then
  the('confirm', HTMLDialogElement).showModal()
}

/** @param {Event} event */
async function drain (event) {
  event.preventDefault()
  token = the('token', HTMLInputElement).value
  try {
    await confirmed()
    the('confirm', HTMLDialogElement).close()
  } catch (error) {
    token = ''
    $('refusal').textContent = messageOf(error)
  }
}

/** @returns {Record<string, string>} */
function authorization () {
  return token === '' ? {} : { authorization: `Bearer ${token}` }
}

/**
 * @param {string} id
 * @param {Array<string | [text: string, tone: string]>} head
 * @param {Content[][]} rows
 * @param {string} [empty]
 */
function fill (id, head, rows, empty = '') {
  if (rows.length === 0) return put($(id), el('p', 'empty', empty))
  const table = document.createElement('table')
  if (head.length > 0) {
    const line = table.createTHead().insertRow()
    for (const title of head) {
      const [text = '', tone = ''] = [title].flat()
      const th = document.createElement('th')
      th.className = tone
      th.textContent = text
      th.scope = 'col'
      line.append(th)
    }
  }
  const body = table.createTBody()
  for (const row of rows) {
    const line = body.insertRow()
    for (const content of row) {
      if (content instanceof HTMLTableCellElement) line.append(content)
      else line.insertCell().append(content)
    }
  }
  put($(id), table)
}

/**
 * Replaces the children, and keeps the focus for people who use the keyboard.
 *
 * @param {HTMLElement} container
 * @param {...Node} children
 */
function put (container, ...children) {
  const focused = container.contains(document.activeElement) && document.activeElement instanceof HTMLElement ? document.activeElement.dataset.focus : undefined
  container.replaceChildren(...children)
  if (focused === undefined) return
  for (const element of container.querySelectorAll('[data-focus]')) if (element instanceof HTMLElement && element.dataset.focus === focused) element.focus()
}

/** @param {string | number} value */
function number (value) {
  return cell('number', value)
}

/**
 * @param {string} tone
 * @param {string | number} value
 */
function cell (tone, value) {
  return el('td', tone, String(value))
}

/**
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {string} [tone]
 * @param {string} [text]
 */
function el (name, tone = '', text = '') {
  const element = document.createElement(name)
  element.className = tone
  element.textContent = text
  return element
}

/** @param {string} id */
function $ (id) {
  return the(id, HTMLElement)
}

/**
 * @template {Element} Kind
 * @param {string} id
 * @param {new () => Kind} kind
 * @returns {Kind}
 */
function the (id, kind) {
  const element = document.getElementById(id)
  if (element instanceof kind) return element
  throw new Error(`The page has no ${kind.name} #${id}.`)
}

/**
 * Sets only new text, because a screen reader reads a live region out again each time it is set.
 *
 * @param {HTMLElement} element
 * @param {string} text
 */
function say (element, text) {
  if (element.textContent !== text) element.textContent = text
}

/** @param {unknown} error */
function messageOf (error) {
  return error instanceof Error ? error.message : String(error)
}

/**
 * @param {string} noun
 * @param {number} count
 */
function plural (noun, count) {
  return count === 1 ? noun : `${noun}s`
}

/** @param {number} perSecond */
function rate (perSecond) {
  return perSecond >= 100 ? String(Math.round(perSecond)) : perSecond.toFixed(1)
}

/** @param {number} ms */
function span (ms) {
  if (ms < 1_000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`
  const minutes = Math.floor(ms / 60_000)
  if (minutes < 60) return `${minutes} min ${Math.floor(ms / 1_000) % 60} s`
  const hours = Math.floor(minutes / 60)
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`
}

/** @param {string | number} time */
function clock (time) {
  return new Date(time).toLocaleTimeString()
}

/** @param {string} time */
function date (time) {
  return new Date(time).toLocaleString([], { dateStyle: 'medium', timeStyle: 'medium' })
}
