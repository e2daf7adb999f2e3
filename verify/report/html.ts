import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Fault, Verdict } from '../verdict.ts'
import { Charts } from './charts.ts'
import { counterexamples } from './counterexamples.ts'
import type { Drawing } from './drawing.ts'
import { exposedIn } from './exposed.ts'
import { faultKinds } from './fault-kinds.ts'
import { html, Markup } from './markup.ts'
import { endings, type Ending, type Meeting } from './met.ts'
import type { Fate } from './slices.ts'
import { bands, glyphsOf, marks, phasesOf, thinned, type Phase } from './stops.ts'
import { availability, bound, command, count, counted, headline, names, notTested, time } from './words.ts'

export interface Reported {
  readonly verdict: Verdict
  /** The settings of the load. */
  readonly drawing: Drawing
}

const fateSays: Readonly<Record<Fate, string>> = {
  served: 'served',
  answered: 'refused because of its content: out of stock, key reused, …',
  'hung-up': 'the client hung up',
  'turned-away': 'turned away: not reached or not started, nothing stored',
  unknown: 'unknown: no answer, or one that says so'
}

const phaseSays: Readonly<Record<Phase, string>> = {
  draining: 'draining: readiness is false, still accepting',
  closing: 'closing: finishing what was begun',
  closed: 'closed: closing resources, until the exit',
  stopping: 'stopping: its phases were not reported',
  recovering: 'until all instances were ready again'
}

const endingSays: Readonly<Record<Ending, string>> = {
  answered: 'answered',
  refused: 'refused: told that nothing was begun',
  unsure: 'told that the outcome is unknown',
  cut: 'cut: closed without a whole answer, although the request had been read',
  reset: 'reset: not read, or not known',
  left: 'its client left by itself'
}

/** More bars than this cannot be told apart on a page. */
const faultsDrawn = 300

/** Writes `report.html`, which needs no other file, into the directory of a run. */
export function writeReport ({ directory, ...reported }: Reported & { readonly directory: string }): void {
  writeFileSync(join(directory, 'report.html'), renderReport(reported))
}

export function renderReport ({ verdict, drawing }: Reported): string {
  const style = readFileSync(join(import.meta.dirname, 'page.css'), 'utf8')
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${verdict.verdict}: ${verdict.target}, ${verdict.scenario}, seed ${verdict.seed}</title>
<style>${new Markup(style)}</style>
</head>
<body>
${header(verdict)}
<main>
${overTime(verdict, drawing)}
${coverage(verdict)}
${conditions(verdict)}
</main>
</body>
</html>
`.text
}

function header (verdict: Verdict): Markup {
  const { attempted, acknowledged, refused, unknown, recovered, latency } = verdict
  const number = (name: string, value: number, says: string): Markup => html`<div><dd>${count(value)}</dd><dt>${name}</dt><small>${says}</small></div>`
  return html`<header>
<p class="word ${verdict.verdict}">${verdict.verdict}</p>
<h1>${headline(verdict)}</h1>
<p class="of">${verdict.target} · ${verdict.scenario} · ${time(verdict.duration)} of load · ${day(verdict.startedAt)} · commit ${verdict.environment.commit ?? 'unknown'}</p>
${verdict.missing.length === 0 ? '' : html`<ul id="missing">${verdict.missing.map(reason => html`<li>${reason}</li>`)}</ul>`}
${exposed(verdict)}
<dl class="numbers">
${number('attempted', attempted, 'orders, each one key of one customer')}
${number('acknowledged', acknowledged, 'the client got a whole 2xx')}
${number('refused', refused, 'told every time that nothing was stored')}
${number('unknown', unknown, 'neither, when the load ended')}
${number('recovered', recovered, 'unknown and stored: no fault, asking again tells')}
</dl>
<div class="sides">
<section id="safety">
<h2>Safety: this is the verdict</h2>
<dl class="sentences">
<dt>Broken</dt><dd>${brokenOf(verdict)}</dd>
<dt>Loss</dt><dd>${bound(verdict)}</dd>
<dt>Controls</dt><dd>What was broken on purpose: ${verdict.environment.controls ?? 'not known here'}.</dd>
</dl>
</section>
<section id="availability">
<h2>Availability: no part of the verdict</h2>
<dl class="sentences">
<dt>Answered</dt><dd>${availability(verdict).says}.</dd>
<dt>Latency</dt><dd>p50 ${time(latency.p50)}, p99 ${time(latency.p99)}, max ${time(latency.max)}, from when a request was due.</dd>
<dt>Recovery</dt><dd>${recoveryOf(verdict)}</dd>
</dl>
</section>
</div>
</header>`
}

/** The facts that a sceptic wants first. */
function exposed (verdict: Verdict): Markup {
  const rows = exposedIn(verdict)
  if (rows.length === 0) return html``
  const kinds = faultKinds(verdict.faults).map(({ kind, faults }) => `${kind} × ${count(faults)}`).join(', ')
  return html`<section id="exposed">
<h2>What was exposed, how often, and what would have been missed</h2>
<p>${counted(verdict.faults.length, 'fault')}: ${kinds}. Only what a fault could have hit is counted. If none of n is broken, then, at 95 %, fewer than 3 in n are broken in the long run. A rarer failure would have been missed.</p>
<div class="table"><table>
<thead><tr><th>promise</th><th>exposed</th><th class="number">how often</th><th class="number">broken</th><th class="number">would have been missed</th></tr></thead>
<tbody>${rows.map(({ promise, says, what, exposed, enough, broken, missed }) => html`<tr><th>${promise} ${says}</th><td>${what}${enough ? '' : html`<small>Too few: not shown.</small>`}</td><td class="number">${count(exposed)}</td><td class="number ${broken > 0 ? 'broken' : 'held'}">${count(broken)}</td><td class="number">${missed}</td></tr>`)}</tbody>
</table></div>
</section>`
}

function brokenOf ({ checked }: Verdict): string {
  const looked = checked.filter(({ looked }) => looked !== null)
  const broken = looked.filter(({ broken }) => broken > 0)
  const notChecked = checked.length - looked.length
  return `${broken.length === 0 ? 'none' : broken.map(({ invariant }) => names[invariant]).join(', ')} of ${counted(looked.length, 'promise')} that ${looked.length === 1 ? 'was' : 'were'} checked, in ${count(looked.reduce((sum, { looked }) => sum + (looked ?? 0), 0))} looks${notChecked === 0 ? '' : `; ${count(notChecked)} not checked`}.`
}

function recoveryOf ({ faults }: Verdict): string {
  const times = faults.flatMap(({ at, recoveredAt }) => recoveredAt === undefined ? [] : recoveredAt - at)
  return times.length === 0 ? 'There was nothing to recover from.' : `All was well again ${time(Math.max(...times))} after a fault at the latest.`
}

function overTime (verdict: Verdict, drawing: Drawing): Markup {
  const { beginning } = drawing
  const end = verdict.faults.reduce((last, { at, recoveredAt }) => Math.max(last, recoveredAt ?? at), beginning + verdict.duration)
  if (beginning === Infinity) return html`${promises(verdict)}<section id="timeline"><h2>What happened when</h2><p>Nothing was asked, so there is nothing to draw.</p></section>`

  const span = (end - beginning) / 1_000
  const charts = new Charts(span)
  const inTime = drawing.slices(span)
  const glyphs = glyphsOf(verdict.faults)
  const { drawn, every } = thinned(verdict.faults, faultsDrawn)
  const signs = marks(drawn, glyphs, beginning)
  const phases = bands(drawn, beginning)
  const times = drawing.latencies

  return html`<section id="timeline">
<h2>What happened when</h2>
<p>Each request is drawn at the time at which it was due, by its outcome. Below are the faults, and what the service then did. ${sampled(every, 'fault')}</p>
<ul class="legend">${colours(fateSays, fate => inTime.some(({ fates }) => fates[fate] > 0))}</ul>
<figure>${charts.requests(inTime, signs)}</figure>
${signs.length === 0
  ? ''
  : html`<figure>${charts.lanes(phases, signs)}</figure>
<ul class="legend">${[...glyphs].map(([kind, glyph]) => html`<li><i>${glyph}</i>${kind}</li>`)}${colours(phaseSays, phase => phases.some(band => band.phase === phase))}</ul>`}
</section>

${promises(verdict)}
${counterexamples(verdict, charts, marks(verdict.faults, glyphs, beginning), beginning)}

<section id="latency">
<h2>Latency</h2>
<p>From when a request was due to its whole answer, so that a service that makes clients wait cannot hide it. Refusals count, too.</p>
<figure><h3>Over time</h3><figcaption>Bars from the median to the 99th percentile; dots are the maximum.</figcaption>${charts.latency(inTime, signs)}</figure>
${times.length === 0 ? '' : html`<figure><h3>By percentile</h3><figcaption>${counted(times.length, 'answer')}.</figcaption>${charts.percentiles(times)}</figure>`}
</section>

${stops(verdict, charts, drawing)}`
}

function promises ({ checked }: Verdict): Markup {
  return html`<section id="promises">
<h2>What was checked</h2>
<p>The answers that clients got are compared with the stored data. It was read twice: before and after every order was sent again.</p>
<div class="table"><table>
<thead><tr><th>name</th><th>promise</th><th class="number">checked</th><th class="number">broken</th></tr></thead>
<tbody>${checked.map(({ invariant, says, looked, broken, because }) => html`<tr data-invariant="${invariant}"><th>${names[invariant]}</th><td>${says}${because === undefined ? '' : html`<small>Not checked: ${because}</small>`}</td><td class="number">${looked === null ? '–' : count(looked)}</td><td class="number ${looked === null ? '' : broken > 0 ? 'broken' : 'held'}">${looked === null ? 'not checked' : count(broken)}</td></tr>`)}</tbody>
</table></div>
</section>`
}

function stops ({ faults }: Verdict, charts: Charts, { meetings: { shown } }: Drawing): Markup {
  const stopped = faults.filter(({ drainMs }) => drainMs !== null)
  if (stopped.length === 0) return html``
  const { drawn, every } = thinned(stopped, faultsDrawn)
  return html`<section id="stops">
<h2>How it stopped</h2>
<p>Every stop from its signal to the exit, by the phases that the service reported. ${sampled(every, 'stop')}</p>
<ul class="legend">${colours(phaseSays, phase => drawn.some(fault => phasesOf(fault).some(part => part.phase === phase)))}</ul>
<figure>${charts.stops(drawn)}</figure>
${shown.length === 0
  ? ''
  : html`<h3>Each request that met a stop</h3>
<p>Each request is a line, from the sending of its bytes to its end${shown.length < stopped.length ? `, of the ${count(shown.length)} stops of ${count(stopped.length)} that cut or met the most` : ''}. A request that was sent before the signal had to be answered, or refused with nothing begun.</p>
<ul class="legend">${colours(endingSays, ending => shown.some(({ met }) => met.some(each => each.ending === ending)), 'met-')}</ul>
${shown.map(meeting => figureOf(meeting, faults, charts))}`}
</section>`
}

function figureOf ({ index, met, count: all, notReached }: Meeting, faults: readonly Fault[], charts: Charts): Markup {
  const fault = faults[index]
  if (fault === undefined) return html``
  const number = faults.slice(0, index + 1).filter(({ drainMs }) => drainMs !== null).length
  const counts = Map.groupBy(met, ({ ending }) => ending)
  const parts = endings.flatMap(ending => counts.has(ending) ? `${count(counts.get(ending)?.length ?? 0)} ${ending}` : [])
  const reported = fault.reported && Object.entries(fault.reported).flatMap(([fate, number]) => number > 0 ? `${count(number)} ${fate}` : []).join(', ')
  return html`<figure><h3>Stop ${number}: ${fault.kind}${fault.instance === undefined ? '' : `, instance ${fault.instance}`}</h3>
<figcaption>${counted(all, 'request')} met it: ${parts.join(', ')}${all > met.length ? ` of the ${count(met.length)} drawn` : ''}${notReached === 0 ? '' : `; ${count(notReached)} more found no listener`}. ${fault.exitCode === null ? 'Ended by a signal' : `Exit code ${fault.exitCode}`} after ${time(fault.drainMs ?? 0)}.${reported === undefined || reported === '' ? '' : ` The service itself reported ${reported}, event streams and probes among them.`}</figcaption>
${charts.meeting(met, fault)}</figure>`
}

function coverage ({ faults, operations, coverage, skipped = [] }: Verdict): Markup {
  return html`<section id="coverage">
<h2>What it went through</h2>
<p>A fault proves something only if requests are in flight. Such faults are counted separately.</p>
${faults.length === 0
  ? html`<p>There was no fault.</p>`
  : html`<div class="table"><table id="faults">
<thead><tr><th>fault</th><th class="number">times</th><th class="number">with requests in flight</th><th class="number">signal to exit<br>min / median / max</th><th class="number">exit code</th><th class="number">well again after<br>median / max</th></tr></thead>
<tbody>${faultKinds(faults).map(({ kind, faults, hits, drain, exits, recovery }) => html`<tr><th>${kind}</th><td class="number">${count(faults)}</td><td class="number">${count(hits)}</td><td class="number">${drain ?? '–'}</td><td class="number">${exits ?? '–'}</td><td class="number">${recovery ?? '–'}</td></tr>`)}</tbody>
</table></div>`}
${coverage.length === 0
  ? ''
  : html`<h3>How often each promise could have been broken</h3>
<div class="table"><table id="occasions">
<thead><tr><th>promise</th><th>fault</th><th>occasion</th><th class="number">there were</th><th class="number">needed</th><th>so it is</th></tr></thead>
<tbody>${coverage.map(({ promise, kind, says, count: had, needed, skipped }) => html`<tr><th>${promise}</th><td>${kind ?? ''}</td><td>${says}</td><td class="number">${skipped === undefined ? count(had) : '–'}</td><td class="number">${count(needed)}</td><td>${skipped === undefined ? had < needed ? 'not shown' : 'shown' : `skipped: ${skipped}`}</td></tr>`)}</tbody>
</table></div>`}
<div class="table"><table id="operations">
<thead><tr><th>asked</th><th class="number">it happened</th><th class="number">it did not</th><th class="number">nobody knows</th></tr></thead>
<tbody>${Object.entries(operations).map(([purpose, { ok, fail, info }]) => html`<tr><th>${purpose}</th><td class="number">${count(ok)}</td><td class="number">${count(fail)}</td><td class="number">${count(info)}</td></tr>`)}</tbody>
</table></div>
${skipped.length === 0
  ? ''
  : html`<h3>Skipped</h3>
<p>The service does not have these, or does not report them. They were not requested or not checked, and do not count against it.</p>
<ul class="plain" id="skipped">${skipped.map(what => html`<li>${what}</li>`)}</ul>`}
</section>`
}

function conditions (verdict: Verdict): Markup {
  const { seed, startedAt, environment } = verdict
  const facts = Object.entries({ seed: String(seed), started: startedAt, ...environment })
  return html`<section id="conditions">
<h2>Where and on what</h2>
<dl class="columns">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value === '' ? '(empty)' : value}</dd></div>`)}</dl>
</section>
<section id="not-tested">
<h2>What was not tested</h2>
<ul class="plain">${notTested.map(what => html`<li>${what}</li>`)}</ul>
</section>
<section id="again">
<h2>Once more</h2>
<p>The same seed makes the same load and the same faults. The timing depends on the machine.</p>
<pre>${command(verdict)}</pre>
</section>`
}

/** A legend for the colours that occur in the drawing. */
function colours<Name extends string> (says: Readonly<Record<Name, string>>, isDrawn: (name: Name) => boolean, prefix = ''): Markup[] {
  return (Object.entries(says) as Array<[Name, string]>).filter(([name]) => isDrawn(name)).map(([name, meaning]) => html`<li><i style="background: var(--${prefix}${name})"></i>${meaning}</li>`)
}

function sampled (every: number, what: string): string {
  return every === 1 ? '' : `There were so many that one ${what} in ${every} is drawn.`
}

function day (iso: string): string {
  return new Date(iso).toLocaleDateString('en-GB', { day: 'numeric', month: 'long', year: 'numeric', timeZone: 'UTC' })
}
